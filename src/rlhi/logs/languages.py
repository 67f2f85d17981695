"""The language of a conversation: the log's own word for it, else what the user's text looks like."""

from __future__ import annotations

from functools import cache

from rlhi.errors import UsageError

UNKNOWN = "und"
MIN_LETTERS = 20
"""Shorter texts are `und`: below it the classifier mostly guesses. A letter of a script without spaces counts three."""
MAX_CHARS = 2000
"""So much of the user's text is looked at."""

_NAMES = (
    "aa Afar|ab Abkhazian|ae Avestan|af Afrikaans|ak Akan|am Amharic|an Aragonese|ar Arabic|as Assamese|av Avaric|"
    "ay Aymara|az Azerbaijani|ba Bashkir|be Belarusian|bg Bulgarian|bh Bihari|bi Bislama|bm Bambara|bn Bengali|"
    "bo Tibetan|br Breton|bs Bosnian|ca Catalan|ce Chechen|ch Chamorro|co Corsican|cr Cree|cs Czech|cu Church Slavic|"
    "cv Chuvash|cy Welsh|da Danish|de German|dv Dhivehi|dv Divehi|dz Dzongkha|ee Ewe|el Greek|en English|eo Esperanto|"
    "es Spanish|et Estonian|eu Basque|fa Persian|fa Farsi|ff Fulah|fi Finnish|fj Fijian|fo Faroese|fr French|"
    "fy Western Frisian|fy Frisian|ga Irish|gd Scottish Gaelic|gd Scots Gaelic|gl Galician|gn Guarani|gu Gujarati|"
    "gv Manx|ha Hausa|he Hebrew|hi Hindi|ho Hiri Motu|hr Croatian|ht Haitian Creole|ht Haitian|hu Hungarian|"
    "hy Armenian|hz Herero|ia Interlingua|id Indonesian|ie Interlingue|ig Igbo|ii Sichuan Yi|ik Inupiaq|ik Inupiak|"
    "io Ido|is Icelandic|it Italian|iu Inuktitut|ja Japanese|jv Javanese|ka Georgian|kg Kongo|ki Kikuyu|ki Gikuyu|"
    "kj Kuanyama|kk Kazakh|kl Kalaallisut|kl Greenlandic|km Central Khmer|km Khmer|kn Kannada|ko Korean|kr Kanuri|"
    "ks Kashmiri|ku Kurdish|kv Komi|kw Cornish|ky Kyrgyz|la Latin|lb Luxembourgish|lg Ganda|li Limburgish|"
    "li Limburgan|ln Lingala|lo Lao|lo Laothian|lt Lithuanian|lu Luba-Katanga|lv Latvian|mg Malagasy|mh Marshallese|"
    "mi Maori|mk Macedonian|ml Malayalam|mn Mongolian|mr Marathi|ms Malay|mt Maltese|my Burmese|na Nauru|"
    "nb Norwegian Bokmål|nd North Ndebele|ne Nepali|ng Ndonga|nl Dutch|nn Norwegian Nynorsk|no Norwegian|"
    "nr South Ndebele|nv Navajo|ny Chichewa|ny Nyanja|oc Occitan|oj Ojibwa|om Oromo|or Oriya|or Odia|os Ossetian|"
    "pa Punjabi|pi Pali|pl Polish|ps Pashto|pt Portuguese|qu Quechua|rm Romansh|rm Rhaeto Romance|rn Rundi|"
    "ro Romanian|ru Russian|rw Kinyarwanda|sa Sanskrit|sc Sardinian|sd Sindhi|se Northern Sami|sg Sango|si Sinhala|"
    "si Sinhalese|sk Slovak|sl Slovenian|sm Samoan|sn Shona|so Somali|sq Albanian|sr Serbian|ss Swati|ss Siswant|"
    "st Southern Sotho|st Sesotho|su Sundanese|sv Swedish|sw Swahili|ta Tamil|te Telugu|tg Tajik|th Thai|ti Tigrinya|"
    "tk Turkmen|tl Tagalog|tl Filipino|tn Tswana|to Tonga|tr Turkish|ts Tsonga|tt Tatar|tw Twi|ty Tahitian|"
    "ug Uighur|ug Uyghur|uk Ukrainian|ur Urdu|uz Uzbek|ve Venda|vi Vietnamese|vo Volapük|wa Walloon|wo Wolof|"
    "xh Xhosa|yi Yiddish|yo Yoruba|za Zhuang|zh Chinese|zh Mandarin|zh Cantonese|zu Zulu"
)
_CODES: dict[str, str] = {}
for _entry in _NAMES.split("|"):
    _code, _, _name = _entry.partition(" ")
    _CODES[_code] = _CODES[_name.lower()] = _code
_OLD_OR_WIDER = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "yue": "zh", "wuu": "zh", "cmn": "zh", "pcm": "en"}
_CODES.update(_OLD_OR_WIDER)
_THREE_LETTERS = {
    "eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "por": "pt", "ita": "it", "nld": "nl",
    "dut": "nl", "rus": "ru", "zho": "zh", "chi": "zh", "jpn": "ja", "kor": "ko", "ara": "ar", "tur": "tr", "pol": "pl",
    "vie": "vi", "ind": "id", "hin": "hi", "ukr": "uk", "swe": "sv", "ces": "cs", "cze": "cs", "fas": "fa", "per": "fa",
}  # fmt: skip
_CODES.update(_THREE_LETTERS)


def code_of(name: str | None) -> str | None:
    """ISO 639-1 code for a name or tag (`English`, `en-US`, `zh_Hans`, `eng`), or None for one that tells nothing."""
    if not name:
        return None
    plain = name.strip().lower()
    known = _CODES.get(plain)
    if known is None:
        known = _CODES.get(plain.replace("_", "-").partition("-")[0].partition("(")[0].strip())
    return known


def check(codes: tuple[str, ...]) -> None:
    """Raise `UsageError` for a wish that no conversation could meet."""
    for wanted in codes:
        code = code_of(wanted)
        if wanted not in (code, UNKNOWN):
            hint = f"; did you mean {code!r}?" if code else ""
            raise UsageError(f"logs.languages: {wanted!r} is no ISO 639-1 code such as en or de{hint}")


def detect(text: str) -> str:
    """ISO 639-1 code of a text by py3langid, `und` where it is too short or in none of these languages."""
    text = text[:MAX_CHARS]
    letters = 0
    for char in text:
        if char.isalpha():
            letters += 3 if char >= "\u0e00" else 1
            if letters >= MIN_LETTERS:
                return _CODES.get(_classify(text), UNKNOWN)
    return UNKNOWN


@cache
def _classifier() -> object:
    import py3langid

    return py3langid.classify


def _classify(text: str) -> str:
    classify = _classifier()
    assert callable(classify)
    return str(classify(text)[0])
