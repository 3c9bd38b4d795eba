"""The report in Chromium: nothing is fetched, nothing complains, every figure is seen, nothing overflows."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from report_helpers import make_document, source

from tombola.analysis.source import Source
from tombola.analysis.verdict import verdict
from tombola.commands.pages import experiment_page
from tombola.report.gallery import FIGURES
from tombola.report.page import page

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--disable-default-apps",
    "--metrics-recording-only",
    "--enable-logging=stderr",
    "--v=0",
    "--virtual-time-budget=5000",
]

MEASURE = """<script>
const boxes = (what, root) => [...root.querySelectorAll(what)];
const scrolled = (e) => e.closest(".scroll, svg") !== null;
const answer = {
  inner: innerWidth,
  page: document.documentElement.scrollWidth,
  dark: getComputedStyle(document.body).backgroundColor,
  figures: boxes("section > figure", document).map((figure) => {
    const box = figure.querySelector("svg").getBoundingClientRect();
    const words = boxes("text", figure);
    return {
      name: figure.parentElement.id, left: box.left, right: box.right, width: box.width, height: box.height,
      marks: boxes("path, use, image", figure).length, words: words.length,
      out: words.filter((word) => {
        const at = word.getBoundingClientRect();
        return at.left < box.left - 4 || at.right > box.right + 4;
      }).map((word) => word.textContent),
      caption: figure.querySelector("figcaption").getBoundingClientRect().height,
    };
  }),
  wide: boxes("body *", document).filter((e) => !scrolled(e) && e.getBoundingClientRect().right > innerWidth + 1)
    .map((e) => e.tagName + " " + e.textContent.slice(0, 40)),
  cut: boxes("body *", document).filter((e) => !scrolled(e) && !e.matches(".scroll") && e.clientWidth
    && e.scrollWidth > e.clientWidth + 1).map((e) => e.tagName + " " + e.textContent.slice(0, 40)),
  fetched: performance.getEntriesByType("resource").map((entry) => entry.name),
};
const place = document.createElement("pre");
place.id = "measured";
place.textContent = JSON.stringify(answer);
document.body.replaceChildren(place);
</script>"""


def opened(path: Path, folder: Path, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """What the script in the page measured, and the lines of the browser's console."""
    home = [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    asked = ["chromium", *FLAGS, *home, *flags, "--dump-dom", path.as_uri()]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stdout[-500:]
    return json.loads(html.unescape(found[1])), [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def measured(text: str, folder: Path, width: int, *flags: str) -> tuple[dict[str, Any], list[str]]:
    """A copy of the page in a frame of this width: a window of its own cannot be as narrow as a telephone."""
    inside = text.replace("</body>", f"{MEASURE}</body>")
    assert inside != text
    frame = f'<iframe style="border:0;width:{width}px;height:900px" srcdoc="{html.escape(inside)}"></iframe>'
    hand_up = """<script>addEventListener("load", () => {
      const inner = document.querySelector("iframe").contentDocument.getElementById("measured");
      document.body.replaceChildren(document.importNode(inner, true));
    });</script>"""
    path = folder / f"frame-{width}.html"
    path.write_text(f'<!DOCTYPE html><meta charset="utf-8"><body>{frame}{hand_up}</body>', encoding="utf-8")
    return opened(path, folder, "--window-size=1300,1000", *flags)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = source()
    assert found.store is not None
    assert found.content is not None
    target = tmp_path_factory.mktemp("page") / "page.html"
    return experiment_page(found.digest, found.content, found.document, found.store, target).read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [400, 1200])
def test_every_figure_is_seen_and_nothing_overflows(text: str, width: int, tmp_path: Path) -> None:
    found, console = measured(text, tmp_path, width)
    assert found["inner"] == width
    assert [figure["name"] for figure in found["figures"]] == [f"figure-{name}" for name in FIGURES]
    for figure in found["figures"]:
        assert 0 <= figure["left"] < figure["right"] <= width, figure
        assert figure["width"] > 0.8 * min(width, 480), figure
        assert figure["height"] > 150, figure
        assert figure["marks"] > 5, figure
        assert figure["words"] >= 3, figure
        assert figure["out"] == [], figure
        assert figure["caption"] > 20, figure
    assert found["page"] <= width
    assert found["wide"] == []
    assert found["cut"] == []
    assert found["fetched"] == []
    assert console == []


def test_a_large_page_with_hostile_names_fits_a_telephone(tmp_path: Path) -> None:
    document = make_document(arms=("ticket", "reinit", "shuffled", "x" * 60), replicates=10, levels=20)
    document["recipe"] = "a-recipe-with-a-name-that-never-ends-" * 4
    details = {"Run again": "tombola run " + "--x " * 200 + "y" * 300}
    found, console = measured(
        page(Source(document=document), details=details, verdict=verdict(document, margin=0.01)), tmp_path, 400
    )
    assert found["page"] <= 400
    assert (found["wide"], found["cut"], console) == ([], [], [])


def test_dark_readers_get_a_dark_page(text: str, tmp_path: Path) -> None:
    light, _ = measured(text, tmp_path, 800, "--blink-settings=preferredColorScheme=1")
    dark, console = measured(text, tmp_path, 800, "--blink-settings=preferredColorScheme=0")
    brightness = [max(map(int, re.findall(r"\d+", found["dark"])[:3])) for found in (light, dark)]
    assert brightness[0] > 200
    assert brightness[1] < 60
    assert console == []


def test_the_measurements_notice_what_is_wrong(text: str, tmp_path: Path) -> None:
    wrong = text.replace("</main>", '<p style="white-space:nowrap">' + "wide " * 200 + "</p></main>")
    wrong = wrong.replace("</body>", '<img src="http://example.invalid/x.png"><script>nothing()</script></body>')
    found, console = measured(wrong, tmp_path, 400)
    assert found["page"] > 400
    assert found["cut"]
    assert any("nothing is not defined" in line for line in console)
    assert found["fetched"] == ["http://example.invalid/x.png"] or any("ERR_NAME" in line for line in console)
