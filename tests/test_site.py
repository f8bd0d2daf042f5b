"""The documentation site: built without a network, and each page has what GitHub shows of it."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
COUNTED = {"h1", "h2", "h3", "h4", "img", "li", "ol", "pre", "table", "td", "ul"}


def built(docs: Path, site: Path) -> None:
    """Build the site as `make docs` does; raises Abort where a link leads nowhere or a page is in no menu."""
    build(load_config(str(ROOT / "mkdocs.yml"), docs_dir=str(docs), site_dir=str(site), strict=True))


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built(ROOT / "docs", folder)
    return folder


class Elements(HTMLParser):
    """How many elements of each kind a page has, and what it loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] += tag in COUNTED
        names = {"link": "href", "a": ""}
        self.loaded += [value or "" for name, value in attrs if name == names.get(tag, "src")]


def file_of(page: str, site: Path) -> Path:
    path = (site / page).with_suffix(".html")
    return path.with_name("index.html") if path.stem == "README" else path


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_what_github_shows(page: str, site: Path):
    """Lists need a blank line before them, and one before an item that follows a block of the item above."""
    article = re.search(r"<article.*?>(.*)</article>", file_of(page, site).read_text(encoding="utf-8"), re.S)
    assert article
    source = (ROOT / "docs" / page).read_text(encoding="utf-8")
    expected = Elements(MarkdownIt("gfm-like", {"linkify": False}).render(source)).count
    assert Elements(article[1]).count == expected


def test_nothing_is_loaded_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)  # one is shown for addresses that do not exist
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert [address for address in Elements(text).loaded if "//" in address] == []
        assert 'class="mermaid"' not in text  # the theme would fetch the program that draws it
    assert [
        file for file in site.rglob("*.css") if re.search(r"@import|url\([\"']?(https?:)?//", file.read_text())
    ] == []


def test_a_link_or_an_anchor_that_leads_nowhere_stops_the_build(tmp_path: Path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "README.md").write_text("# Index\n\n## All\n\n- [One](one.md)\n")
    (docs / "one.md").write_text("# One\n\n[a](gone.md) [b](README.md#gone) [c](README.md#all) [d](../outside.py)\n")
    with pytest.raises(Abort, match="2 warnings"):
        built(docs, tmp_path / "site")


def test_the_menu_is_that_of_the_index(site: Path):
    page = file_of("README.md", site).read_text(encoding="utf-8")
    menu = re.search(r'<nav class="md-nav md-nav--primary.*?</nav>\s*</div>', page, re.S)
    assert menu
    links = re.findall(r'<a href="([^"]+\.html)" class="md-nav__link', menu[0])
    assert {str(file_of(name, Path())) for name in PAGES} == set(links)
