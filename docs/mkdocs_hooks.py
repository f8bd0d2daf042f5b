"""What GitHub shows of a page and MkDocs by itself would not: lists with blocks in them, links to files outside docs/,
and Markdown inside <details>.
"""

import logging
import re
from pathlib import Path
from typing import Any

from markdown import Extension, Markdown
from markdown.blockprocessors import build_block_parser

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)\s]*)?\)")
_log = logging.getLogger("mkdocs.hooks")


class ListIndent(Extension):
    """What belongs to a list's item is indented by its marker's width, 2 or 3, and not by 4."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.tab_length = 2
        md.parser = build_block_parser(md)


def on_config(config: Any) -> None:
    config.markdown_extensions.insert(0, ListIndent())  # the others add to its parser


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """The page with links that lead out of docs/ as text, after a check that they lead somewhere."""
    here, docs = Path(page.file.abs_src_path).parent, Path(config.docs_dir).resolve()

    def as_text(link: re.Match[str]) -> str:
        target = (here / link[2]).resolve()
        if target.is_relative_to(docs):
            return link[0]
        if not target.exists():
            _log.warning(f"{page.file.src_path} links to {link[2]}, which does not exist")
        return link[1]

    return _LINK.sub(as_text, markdown).replace("<details>", '<details markdown="1">')
