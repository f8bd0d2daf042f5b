"""Tables in pages of docs/ that programs of benchmarks/ write."""

from collections.abc import Sequence
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *([str(cell).replace("|", "/") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def put_block(page: str, name: str, text: str) -> None:
    """Put ``text`` into the page ``page`` of docs/, between its comments ``name: begin`` and ``name: end``."""
    path, begin, end = DOCS / page, f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} has no block {name}")
    path.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")
