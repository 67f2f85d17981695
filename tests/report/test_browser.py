"""The page in a real browser: silent, offline, drawn, readable at any width, and deaf to what log text wants of it."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhi.report.build import build
from rlhi.report.data import ReportData
from rlhi.report.load import load
from tests.report.sample import pair, write_run
from tests.report.test_build import HOSTILE, SECTIONS

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM} (Debian: apt-get install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as play:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=flags)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    return load(write_run(tmp_path_factory.mktemp("runs") / "sample"))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and says nothing."""

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which this machine serves it."""
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield tmp_path, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Visit:
    """A page opened from a server, with all that it said and asked for."""

    def __init__(self, browser: Any, site: tuple[Path, str], source: str, **settings: Any) -> None:
        folder, address = site
        (folder / "report.html").write_text(source, encoding="utf-8")
        self.page = browser.new_context(**settings).new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(f"{address}/report.html")
        self.charts = self.page.locator(".chart").count()
        if self.charts:
            self.page.wait_for_function("n => document.querySelectorAll('[data-drawn]').length === n", arg=self.charts)

    @property
    def fetched(self) -> list[str]:
        """Requests beyond the page itself; a data address is no request."""
        return [url for url in self.asked[1:] if not url.startswith("data:")]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_the_page_is_silent_offline_and_drawn(
    browser: Any, site: tuple[Path, str], data: ReportData, width: int, scheme: str
) -> None:
    visit = Visit(browser, site, build(data), viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert visit.said == [] and visit.fetched == []
    for section in SECTIONS:
        assert visit.page.locator(f"#{section}").is_visible()
    assert visit.charts == 2 * 3 + 3
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in visit.page.locator(".chart svg").all():
        box = chart.bounding_box()
        assert box and box["width"] > 200 and box["height"] > 100 and box["x"] + box["width"] <= width


def test_whiskers_stand_where_the_scores_say(browser: Any, site: tuple[Path, str], data: ReportData) -> None:
    page = Visit(browser, site, build(data), viewport={"width": 1280, "height": 900}).page
    chart = page.locator("#arms-0-overall")
    texts = chart.locator("text").all_text_contents()
    assert "wrong persona · control" in texts and "UGR+UBR + persona" in texts
    lines = [line.bounding_box() for line in chart.locator(".mark-rule.role-mark line").all()]
    widths = sorted(box["width"] for box in lines if box and box["width"] > box["height"])
    assert len(widths) == 5 * 3
    assert widths[0] == pytest.approx(widths[4], rel=0.05)  # five intervals of 11 points over all turns …
    assert widths[-1] / widths[0] == pytest.approx(
        0.156 / 0.11, rel=0.05
    )  # … ten of 15.6 over initial or follow-up ones
    assert chart.locator(".mark-symbol path").count() == 5 * 3


def test_colours_follow_the_readers_scheme(browser: Any, site: tuple[Path, str], data: ReportData) -> None:
    def colours(scheme: str) -> list[str]:
        page = Visit(browser, site, build(data), color_scheme=scheme).page
        script = "e => getComputedStyle(document.querySelector(e)).%s"
        return [
            page.evaluate(script % "backgroundColor", "body"),
            page.evaluate(script % "fill", "#arms-0-overall .mark-text.role-mark text"),
        ]

    (light, light_ink), (dark, dark_ink) = colours("light"), colours("dark")
    assert (light, dark) == ("rgb(251, 250, 247)", "rgb(21, 23, 26)")
    assert (light_ink, dark_ink) == ("rgb(28, 30, 33)", "rgb(232, 230, 225)")


def test_hostile_text_does_nothing(browser: Any, site: tuple[Path, str], data: ReportData) -> None:
    from tests.report.sample import conversations

    one = pair(conversations()[0], "ugr")
    bad = one.chosen[0].model_copy(update={"content": HOSTILE})
    hostile = dataclasses.replace(
        data,
        name=HOSTILE,
        scores=[score.model_copy(update={"arm": f"{score.arm} {HOSTILE}", "judge": HOSTILE}) for score in data.scores],
        curves={f"{HOSTILE}/seed-0": data.curves["ugr/seed-0"]},
        pairs=[one.model_copy(update={"chosen": (bad,), "rejected": (bad,)})],
        verdict={"sentence": HOSTILE},
    )
    visit = Visit(browser, site, build(hostile))
    assert visit.page.evaluate("window.hacked") is None
    assert visit.said == [] and visit.fetched == [] and visit.page.locator("img").count() == 0
    reply = visit.page.locator(".side.chosen .reply")
    assert reply.inner_text() == HOSTILE
    before, after = (visit.page.locator(f".side.{side}").bounding_box() for side in ("rejected", "chosen"))
    assert before["x"] < after["x"]


def test_the_policy_stops_a_script_that_should_slip_in(browser: Any, site: tuple[Path, str], data: ReportData) -> None:
    source = build(data).replace("</main>", "</main><script>window.hacked = 1</script><img src='/x.png'>")
    visit = Visit(browser, site, source)
    assert visit.page.evaluate("window.hacked") is None
    assert any("inline script violates" in words for words in visit.said)
    assert any("x.png" in words and "has been blocked" in words for words in visit.said)


def test_an_empty_run_opens_quietly(browser: Any, site: tuple[Path, str]) -> None:
    visit = Visit(browser, site, build(ReportData(name="fresh")))
    assert visit.said == [] and visit.fetched == [] and visit.charts == 0


def test_folds_open_for_print(browser: Any, site: tuple[Path, str], data: ReportData) -> None:
    page = Visit(browser, site, build(data)).page
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
