"""Markdown tables, and text escaped for them."""

import re
from collections.abc import Sequence
from typing import Any

# An underscore inside a word is not markup, so names such as max_drift stay readable in the source.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_BLOCK = re.compile(r"^(\d*)(#{1,6}(?= |$)|[-+](?= |$)|-{3}|>|(?<=\d)[.)](?= |$))")  # a heading, list, rule or quote


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same keys as a table, with the keys as its header."""
    return table_of_markdown([{escape(name): escape(value) for name, value in row.items()} for row in rows])


def table_of_markdown(rows: Sequence[dict[str, str]]) -> str:
    """`markdown_table` of keys and values that are Markdown themselves, such as links."""
    if not rows:
        return "(none)"
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(row[n] for n in names) + " |" for row in rows])


def escape(text: Any) -> str:
    """Text on one line, escaped so that a renderer shows it as it is, in a table as well."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return _BLOCK.sub(r"\1\\\2", _MARKUP.sub(r"\\\g<0>", line))


def code(text: Any) -> str:
    """Text on one line as a code span, which may contain backticks."""
    line = " ".join(str(text).split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"
