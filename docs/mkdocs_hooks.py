"""What the site has from GitHub's pages: the menu is that of the index, and lists, anchors, links and <details> are as there."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

from markdown import Extension, Markdown
from markdown.blockprocessors import build_block_parser
from pymdownx.slugs import slugify

_PAGE = re.compile(r"\]\(([\w./-]+\.md)\)")
_OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)\s]*)?\)")
INDEX = "README.md"


class ListIndent(Extension):
    """What belongs to a list's item is indented by its marker's width, 2 or 3, and not by 4."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.tab_length = 2
        md.parser = build_block_parser(md)


def on_config(config: Any) -> None:
    """The menu: the sections of docs/README.md with the pages that they link to."""
    config.markdown_extensions.insert(0, ListIndent())  # the others add to its parser
    config.mdx_configs["toc"]["slugify"] = slugify(case="lower")
    text = Path(config.docs_dir, INDEX).read_text(encoding="utf-8")
    sections = (section.partition("\n") for section in text.split("\n## ")[1:])
    config.nav = [INDEX, *({title: _pages(Path(config.docs_dir), INDEX, body)} for title, _, body in sections)]


def _pages(docs: Path, index: str, text: str) -> list[Any]:
    """The pages in the folder of ``index`` that ``text`` links to; an index of a folder brings the pages that it links to."""
    folder = PurePosixPath(index).parent
    pages = [str(folder / name) for name in dict.fromkeys(_PAGE.findall(text)) if not name.startswith("..")]
    nav: list[Any] = []
    for page in pages:
        if PurePosixPath(page).name == INDEX and page != index:
            inside = (docs / page).read_text(encoding="utf-8")
            title = inside.removeprefix("# ").partition("\n")[0]
            nav.append({title: [page, *_pages(docs, page, inside)]})
        else:
            nav.append(page)
    return nav


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """The page with the links that lead out of docs/ as text."""
    here, docs = Path(page.file.abs_src_path).parent, Path(config.docs_dir).resolve()

    def as_text(link: re.Match[str]) -> str:
        return link[0] if (here / link[2]).resolve().is_relative_to(docs) else link[1]

    return _OUTSIDE.sub(as_text, markdown).replace("<details>", '<details markdown="1">')
