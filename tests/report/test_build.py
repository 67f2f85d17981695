"""The page: what it says, that it is inert, and what it says where a run has nothing yet."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rlhi.records import Score, TurnRef
from rlhi.report.build import build
from rlhi.report.data import Loss, ReportData, Said
from rlhi.report.load import load
from tests.report.sample import conversations, pair, personas, write_run

SECTIONS = ("verdict", "funnel", "arms", "absolute", "personas", "pairs", "training", "lost", "cost", "recipe")
HOSTILE = (
    '</script><script>window.hacked = 1</script><img src=x onerror="window.hacked = 1"> "\' {{ 7*7 }} ${1} \u202eنص'
)


class Page(HTMLParser):
    """Ids, tags with their attributes, and text outside scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._raw = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id" and value]
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw = False

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.text += data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return load(write_run(tmp_path_factory.mktemp("runs") / "sample"))


@pytest.fixture(scope="module")
def source(data: ReportData) -> str:
    return build(data)


def test_every_section_is_there_once(source: str) -> None:
    ids = Page(source).ids
    assert [one for one in ids if one in SECTIONS] == list(SECTIONS)
    assert len(set(ids)) == len(ids)


def test_the_same_data_give_the_same_small_page(data: ReportData, source: str) -> None:
    assert build(data) == source
    assert len(source.encode()) < 2_000_000


def test_the_page_names_nothing_to_fetch(source: str) -> None:
    for tag, attributes in Page(source).tags:
        for name in ("src", "href", "action", "poster", "data", "srcset"):
            address = attributes.get(name)
            assert address is None or address.startswith(("#", "data:")), (tag, address)
    assert "sourceMappingURL" not in source
    assert "@import" not in source and "url(" not in re.sub(r"<script.*?</script>", "", source, flags=re.S)


def test_the_policy_allows_exactly_the_scripts_of_the_page(source: str) -> None:
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', source)
    assert policy
    allowed = set(re.findall(r"sha256-([A-Za-z0-9+/=]+)", policy[1]))
    scripts = re.findall(r"<script>(.*?)</script>", source, flags=re.S)
    assert {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts} == allowed
    assert len(allowed) == 4 and "unsafe-eval" not in policy[1]


def test_verdict_stands_with_its_interval(source: str) -> None:
    text = Page(source).text
    assert "“UGR+UBR + persona” beats “base + persona”" in text
    assert "66.9\u202f% to 77.9\u202f%" in text and "36 users, 960 comparisons" in text


def test_users_words_stand_under_statements_and_marked_in_pairs(source: str) -> None:
    assert "“I don&#39;t have cups here, can you use grams and millilitres?”</span> <time>2025-03-07" in source
    assert "<mark>just give me 3 short bullet points</mark> please" in source


def test_controls_and_untrained_arms_are_marked(source: str) -> None:
    assert re.search(r"wrong persona</bdi> <span class=\"tag\">control", source)
    assert re.search(r"<bdi>base</bdi> <span class=\"tag\">untrained", source)
    assert not re.search(r"<bdi>UGR \+ persona</bdi> <span", source)


def test_the_recipe_is_shown_in_full(data: ReportData, source: str) -> None:
    text = Page(source).text
    assert all(f"\n{key}:" in "\n" + text[text.index("name: sample") :] for key in data.recipe)
    assert "learning_rate: 1.0e-06" in text and "truth: world/truth" in text


def test_an_empty_run_says_so_everywhere() -> None:
    source = build(ReportData(name="fresh"))
    page = Page(source)
    assert [one for one in page.ids if one in SECTIONS] == list(SECTIONS)
    assert source.count('class="empty"') == len(SECTIONS) - 1
    assert "No verdict yet" in page.text and "There are no pairs" in page.text
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "<script" not in source and policy and "script-src 'none'" in policy


def test_scores_without_a_verdict_are_not_given_one(data: ReportData) -> None:
    text = Page(build(dataclasses.replace(data, verdict={}))).text
    assert "No verdict yet" in text and "95\u202f% interval 66.9" not in text


def test_hostile_text_is_inert_everywhere(data: ReportData) -> None:
    card = personas(conversations())[1]
    line = card.statements[0].model_copy(update={"text": HOSTILE, "condition": HOSTILE})
    ref = TurnRef(conversation_id=HOSTILE, turn=0)
    card = card.model_copy(update={"user_id": HOSTILE, "statements": (line.model_copy(update={"evidence": (ref,)}),)})
    one = pair(conversations()[0], "ugr")
    why = one.provenance.model_copy(update={"feedback": f"a {HOSTILE} b", "span": HOSTILE, "logged_reply": HOSTILE})
    gate = why.gates[0].model_copy(update={"gate": HOSTILE, "detail": HOSTILE})
    why = why.model_copy(update={"gates": (gate,)})
    chat = [message.model_copy(update={"content": HOSTILE}) for message in (*one.prompt, *one.prompt[1:])]
    one = one.model_copy(
        update={
            "prompt": tuple(chat),
            "chosen": tuple(chat[:1]),
            "rejected": tuple(chat[:1]),
            "user_id": HOSTILE,
            "provenance": why,
            "pair_id": HOSTILE,
        }
    )
    scores = [score.model_copy(update={"arm": HOSTILE, "judge": HOSTILE, "against": HOSTILE}) for score in data.scores]
    hostile = dataclasses.replace(
        data,
        name=HOSTILE,
        recipe={"name": HOSTILE, "evaluation": {"arms": [{"name": HOSTILE}]}, HOSTILE: HOSTILE},
        scores=scores,
        arms=[
            {
                "arm": HOSTILE,
                "personalization": 0.5,
                "correctness": 0.5,
                "overall": 0.5,
                "words": 1.0,
                "wanted_words": 1.0,
                "wanted_low": 1.0,
                "wanted_high": 1.0,
            }
        ],
        verdict={"sentence": HOSTILE, "arm": HOSTILE, "judge": HOSTILE},
        differences=[data.differences[0].model_copy(update={"arm": HOSTILE, "control": HOSTILE, "judge": HOSTILE})],
        personas=[card],
        words={ref: Said(HOSTILE, HOSTILE)},
        pairs=[one],
        curves={f"{HOSTILE}/seed-0": [{"step": 1, "loss": 0.5}]},
        trainings={HOSTILE: {"steps": 1, "pairs": 1, "held_out": 0, "metrics": {}, "validation": HOSTILE}},
        quarantined={HOSTILE: 1},
        losses=[Loss("conversations", "quarantined", HOSTILE, HOSTILE, HOSTILE)],
    )
    source = build(hostile)
    page = Page(source)
    assert "<script>window.hacked" not in source and "<img" not in source and "{{ 7*7 }}" in page.text
    tags = [tag for tag, _ in page.tags]
    assert "img" not in tags and tags.count("script") == 5
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    marked = re.search(r"<mark>(.*?)</mark>", source, flags=re.S)
    assert marked and "&lt;script&gt;" in marked[1]


def test_long_texts_are_cut_and_the_cut_is_told(data: ReportData) -> None:
    one = pair(conversations()[0], "ugr")
    long = one.rejected[0].model_copy(update={"content": "word " * 1_000_000})
    source = build(dataclasses.replace(data, pairs=[one.model_copy(update={"rejected": (long,)})]))
    assert len(source.encode()) < 2_000_000 and "… 4\u202f998\u202f200 characters …" in source


def test_one_judge_with_one_user_and_one_seed(data: ReportData) -> None:
    lone = Score.model_validate(data.scores[0].model_dump() | {"users": 1, "seeds": (0,), "low": 0.0, "high": 1.0})
    named = {"sentence": "So.", "arm": lone.arm, "judge": lone.judge}
    text = Page(build(dataclasses.replace(data, scores=[lone], verdict=named))).text
    assert "1 user, 960 comparisons" in text and "1 seed " in text


def test_the_page_of_a_run_that_only_ingested(tmp_path: Path) -> None:
    run = write_run(tmp_path / "sample")
    for name in ("scores.json",):
        (run / name).unlink()
    text = Page(build(load(run))).text
    assert "Nothing has been compared yet" in text and "Absolute figures need users" in text
