"""The HTML page: one file, every number, the same bytes, whatever the document holds."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from report_helpers import DOCUMENTS, Document, all_diverged, every_document, make_document, source

from tombola.analysis.source import Source
from tombola.analysis.verdict import verdict
from tombola.commands.arguments import write_whole
from tombola.commands.pages import experiment_page
from tombola.commands.report import main
from tombola.errors import StoreError, UsageError
from tombola.report.gallery import FIGURES, gallery
from tombola.report.page import page
from tombola.report.summary import table


@every_document
def test_page_is_one_file_that_fetches_nothing(document: Document) -> None:
    text = page(Source(document=document), details={})
    assert not re.search(r"https?://|src=|@import|<link|<script", text)
    shown, _ = gallery(Source(document=document))
    assert text.count("<svg") == text.count("<figcaption") == len(shown)
    assert {"accuracy", "early-stop"} <= {one.name for one in shown} or not table(document)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="#|url\(#)([^")]+)', text)
    assert set(targets) <= set(ids)


def test_page_holds_every_number_of_the_table_and_the_details() -> None:
    document = make_document()
    details = {
        "recipe": 'task = "digits"\n',
        "versions": {"torch": "2.9.1", "nested": {"a": 1}},
        "seeds": [0, 1, 2],
        "gpu": None,
        "command": "tombola run digits-lenet",
    }
    text = page(Source(document=document), details=details)
    assert text.count('<th scope="row"') == len(table(document))
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    for part in ("task = &#34;digits&#34;", "2.9.1", "0, 1, 2", "<pre>tombola run digits-lenet</pre>"):
        assert part in text


def test_page_escapes_hostile_strings() -> None:
    hostile = "<script>alert('x')</script>\"&"
    document = make_document(arms=("ticket", hostile), levels=2) | {"recipe": hostile, "experiment": hostile}
    text = page(Source(document=document), details={hostile: {hostile: [hostile, 1]}, "recipe": hostile})
    assert "<script" not in text
    assert "&lt;script&gt;" in text


def test_page_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    document, details = make_document(), {"versions": {"torch": "2.9.1"}}
    first = page(Source(document=document), details=details)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from report_helpers import make_document;"
        "from tombola.analysis.source import Source; from tombola.report.page import page;"
        "text = page(Source(document=make_document()), details={'versions': {'torch': '2.9.1'}});"
        "open(sys.argv[2], 'w', encoding='utf-8').write(text)"
    )
    target = tmp_path / "second.html"
    subprocess.run([sys.executable, "-c", code, str(Path(__file__).parent), str(target)], check=True)
    assert target.read_text(encoding="utf-8") == first


def test_a_page_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "page.html"
    for levels in (0, 1):
        write_whole(target, page(Source(document=make_document(levels=levels)), details={}))
    assert "level 1" in target.read_text(encoding="utf-8")
    assert list(target.parent.iterdir()) == [target]


def test_a_page_that_cannot_be_written_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "page.html", tmp_path):
        with pytest.raises(StoreError, match=r"cannot be written: .*; name a file elsewhere"):
            write_whole(place, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["full", "one replicate", "level 0 only", "all diverged", "regression", "no arms"])
def test_the_verdict_comes_first_and_its_table_has_every_level(name: str) -> None:
    document = DOCUMENTS[name]
    found = verdict(document, margin=0.01, steps=1200)
    text = page(Source(document=document), details={}, verdict=found).replace("\u00a0", " ")
    assert text.index(found["overall"]["sentence"].split(":")[0]) < text.index("<main>")
    table_ = text.partition('<table class="verdicts">')[2].partition("</table>")[0]
    assert table_.count("<tr>") == (len(found["levels"]) + 1 if found["levels"] else 0)


def test_a_verdict_on_diverged_fits_has_dashes() -> None:
    document = all_diverged()
    text = page(Source(document=document), details={}, verdict=verdict(document, margin=0.01))
    assert '<td class="number">-</td>' in text


def test_the_page_of_an_experiment_has_every_figure_and_says_how_it_was_made(tmp_path: Path) -> None:
    found = source()
    assert found.store is not None
    assert found.content is not None
    path = experiment_page(found.digest, found.content, found.document, found.store, tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    assert re.findall(r'<section id="figure-([^"]+)">', text) == list(FIGURES)
    assert text.count("<svg") == len(FIGURES)
    assert "Left out" not in text
    assert "cannot judge" in text  # two replicates
    for part in ("Run again", "seed 0", "split seed 0", "processor", "steps = 40"):
        assert part in text
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert path.stat().st_size < 3e6


def test_what_is_left_out_is_said_once_a_reason() -> None:
    text = page(Source(document=make_document()), details={})
    assert text.count("only the results document is at hand") == 1
    assert "Learning curves" in text


def test_twenty_levels_of_ten_replicates_make_a_page_of_modest_size() -> None:
    document = make_document(replicates=10, levels=20)
    text = page(Source(document=document), details={}, verdict=verdict(document, margin=0.01, steps=1200))
    assert len(text) < 3e6


def test_the_command_writes_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = source()
    assert found.store is not None
    asked = [found.digest[:8], "--store", str(found.store.root), "--out", str(tmp_path / "page.html")]
    assert main([*asked, "--figures", str(tmp_path / "figures")]) == 0
    assert f"Figures: {3 * len(FIGURES)} files in {tmp_path / 'figures'}" in capsys.readouterr().out
    assert main([*asked, "--quiet"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'page.html'}\n"
    with pytest.raises(UsageError, match="is a file; name a folder for the figures"):
        main([*asked, "--figures", str(tmp_path / "page.html")])
    with pytest.raises(UsageError, match="does not exist; make it first"):
        main([*asked, "--figures", str(tmp_path / "none" / "figures")])
