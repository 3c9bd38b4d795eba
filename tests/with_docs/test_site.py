"""The documentation as a site: built strictly, without a fetch, whole."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from pages import ROOT

OFFLINE = """
import socket, sys
def refuse(*_): raise OSError("the build must not reach out")
socket.socket.connect = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(["build", "--strict", "--site-dir", sys.argv[1]])
"""
PACKAGES = (
    "tombola",
    "tombola.allocation",
    "tombola.costing",
    "tombola.criteria",
    "tombola.data",
    "tombola.errors",
    "tombola.exporting",
    "tombola.integrations.lightning",
    "tombola.integrations.transformers",
    "tombola.motifs",
    "tombola.native",
    "tombola.recipes",
    "tombola.search",
    "tombola.shrinking",
    "tombola.statistics",
    "tombola.tickets",
    "tombola.training.optimizers",
)
"""All that their `__all__` names stands in the reference."""


class Page(HTMLParser):
    """What a page links to, what it loads, and where it can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.anchors |= {named[name] for name in ("id", "name") if name in named}
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif tag != "a":
            self.loads += [named[name] for name in ("src", "href", "data", "srcset", "action") if name in named]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    command = [sys.executable, "-W", "ignore", "-c", OFFLINE, str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail("\n".join(done.stderr.splitlines()[-10:]), pytrace=False)
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    assert len(pages) > 10
    for path, page in pages.items():
        assert page.loads and not [load for load in page.loads if re.match(r"(?i)(\w+:)?//", load)], path
        assert 'class="mermaid"' not in path.read_text(encoding="utf-8"), "diagrams would load a script"
    for sheet in site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import)\s*[\"']?((?:\w+:)?//[^)\"']*)", sheet.read_text(encoding="utf-8"))
        assert not found, sheet


def test_internal_links_resolve(pages: dict[Path, Page]) -> None:
    checked = 0
    for path, page in pages.items():
        for link in page.links + page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            assert target.exists(), f"{path.name}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors | {"__skip"}, f"{path.name}: {link}"
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_in_the_reference(package: str, pages: dict[Path, Page]) -> None:
    anchors = {name for path, page in pages.items() if path.parent.name == "reference" for name in page.anchors}
    module = importlib.import_module(package)
    names = set(module.__all__) - {"__version__", "Native"}  # a number, named in the text; an engine's inside
    between = "" if package == "tombola" else r"(?:\.\w+)*"  # the short name, or within the package
    found = re.compile(rf"{re.escape(package)}{between}\.(\w+)")
    anchors |= {f"{package}.{anchor.removeprefix('tombola.')}" for anchor in anchors if anchor.count(".") == 1}
    there = {match[1] for anchor in anchors if (match := found.fullmatch(anchor))}
    assert names and names <= there, sorted(names - there)


def test_examples_stand_in_the_reference_as_code(site: Path) -> None:
    text = (site / "reference" / "loops.html").read_text(encoding="utf-8")
    assert "Examples" in text and "<blockquote>" not in text
