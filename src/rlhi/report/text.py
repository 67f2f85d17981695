"""Figures and log text as the page shows them. What users wrote is escaped here or by the template, never trusted."""

from __future__ import annotations

import re

from markupsafe import Markup, escape

THIN = "\u202f"
MAX_CHARS = 2400


def percent(share: float, digits: int = 1) -> str:
    """A share (0–1) in percent."""
    return f"{100 * share:.{digits}f}{THIN}%"


def number(value: float | None, digits: int = 0) -> str:
    """A figure with thin spaces between thousands; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}".replace(",", THIN)


def duration(seconds: float | None) -> str:
    """A time in the largest two units that fit it."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f}{THIN}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}{THIN}h {minutes:02d}{THIN}min"
    return f"{minutes}{THIN}min {rest:02d}{THIN}s" if minutes else f"{rest}{THIN}s"


def date(moment: str | None) -> str:
    """The day of an ISO 8601 moment; a moment in the first years of computers' time is a counter, and no date."""
    return moment[:10] if moment and moment[:4] >= "1990" else "undated"


def short(name: str) -> str:
    """An id as a person can tell it apart: a digest by its beginning, a name in full."""
    return f"{name[:12]}…" if len(name) > 24 else name


def unbroken(sentence: str) -> str:
    """A sentence whose figures stay on one line with their per cent sign."""
    return re.sub(r"(?<=\d) %", f"{THIN}%", sentence)


def sentences(words: str) -> tuple[str, str]:
    """The first sentence, and the rest."""
    first, _, rest = (re.sub(r"(?<=[.!?]) (?=\S)", "\n", unbroken(words), count=1)).partition("\n")
    return first, rest


def with_code(words: str) -> Markup:
    """A sentence, escaped, with what stands between backticks set as code."""
    parts = words.split("`")
    if len(parts) % 2 == 0:
        return escape(words)
    code = Markup("<code>{}</code>")
    return Markup("").join(code.format(part) if place % 2 else escape(part) for place, part in enumerate(parts))


def plain(name: str) -> str:
    """A short name (`no_truth`) as words."""
    return name.replace("_", " ")


def excerpt(text: str, limit: int = MAX_CHARS) -> Markup:
    """The beginning of a text, escaped, with a note of how much was cut."""
    if len(text) <= limit:
        return escape(text)
    return escape(text[:limit]) + _cut(len(text) - limit)


def highlighted(text: str, span: str, limit: int = MAX_CHARS) -> Markup:
    """A text, escaped, in which the first occurrence of `span` is marked; a long text is cut around it."""
    start = text.find(span) if span else -1
    if start < 0:
        return excerpt(text, limit)
    shown = span[:limit]
    end = start + len(shown)
    room = max(0, limit - len(shown))
    left = max(0, start - room // 2)
    right = min(len(text), end + room - (start - left))
    before = _cut(left) if left else Markup("")
    after = _cut(len(text) - right) if right < len(text) else Markup("")
    mark = Markup("<mark>{}</mark>").format(shown)
    return before + escape(text[left:start]) + mark + escape(text[end:right]) + after


def _cut(chars: int) -> Markup:
    return Markup('<span class="cut"> … {} characters … </span>').format(number(chars))
