"""Tables of Markdown, for pages that people read."""

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same keys as one table, the keys above."""
    if not rows:
        return "(none)"
    names = list(rows[0])
    lines = ["| " + " | ".join(map(plain, names)) + " |", "|" + " --- |" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(plain(row[n]) for n in names) + " |" for row in rows])


def plain(text: Any) -> str:
    """Text that cannot break a table or become markup."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
