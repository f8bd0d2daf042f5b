"""Links of the documentation lead somewhere, and its index names every page."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
INDEX = ROOT / "docs" / "README.md"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//")


@cache
def links_and_anchors(page: Path) -> tuple[list[str], set[str]]:
    """Targets of the links and pictures of a page, and the ids that GitHub gives its headings."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    links, slugs = [], []
    for before, token in zip(tokens, tokens[1:], strict=False):
        children = token.children or []
        links += [str(found) for child in children if (found := child.attrs.get("href") or child.attrs.get("src"))]
        if before.type == "heading_open":
            text = "".join(child.content for child in children if child.type in ("text", "code_inline"))
            slugs.append(re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-"))
    return links, {slug + (f"-{n}" if (n := slugs[:at].count(slug)) else "") for at, slug in enumerate(slugs)}


def targets(page: Path) -> list[tuple[str, Path, str]]:
    """Each relative link as written, the file or folder that it names, and its anchor."""
    relative = [link for link in links_and_anchors(page)[0] if not ELSEWHERE.match(link)]
    parts = [(link, *unquote(link).partition("#")[::2]) for link in relative]
    return [(link, (page.parent / path).resolve() if path else page, anchor) for link, path, anchor in parts]


def leads_nowhere(target: Path, anchor: str) -> bool:
    if not target.exists():
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in links_and_anchors(target)[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_and_anchors_lead_somewhere(page: Path):
    assert [link for link, target, anchor in targets(page) if leads_nowhere(target, anchor)] == []


def test_a_broken_link_and_a_broken_anchor_are_noticed(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# One, two\n\n[a](#one-two) [b](#three) [c](page.md#one-two) [d](absent.md) ![e](absent.png)\n")
    broken = [link for link, target, anchor in targets(page) if leads_nowhere(target, anchor)]
    assert broken == ["#three", "absent.md", "absent.png"]


def test_the_index_names_every_page():
    pages = set((ROOT / "docs").glob("*.md")) - {INDEX}
    assert sorted(page.name for page in pages - {target for _, target, _ in targets(INDEX)}) == []


def test_every_page_can_be_reached_from_the_index():
    reached, ahead = {INDEX}, [INDEX]
    while ahead:
        found = {target for _, target, _ in targets(ahead.pop()) if target.suffix == ".md" and target.exists()}
        ahead += found - reached
        reached |= found
    docs = set((ROOT / "docs").rglob("*.md"))
    assert sorted(str(page.relative_to(ROOT)) for page in docs - reached) == []


def test_every_picture_is_shown_on_a_page():
    shown = {target for page in PAGES for _, target, _ in targets(page)}
    assert sorted(path.name for path in (ROOT / "docs" / "images").iterdir() if path not in shown) == []
