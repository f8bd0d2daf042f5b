"""docs/troubleshooting.md quotes messages that the code has, and every reason for which a recording is refused."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from heartdata.checks import suite

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
CONFIG = suite.ValidationConfig()
CHECKS = [
    *suite.recording_checks(CONFIG, ["normal"]),
    *suite.duplicate_checks(),
    *suite.subject_checks(CONFIG),
    *suite.table_checks(CONFIG, ["normal"]),
    *suite.change_checks(CONFIG),
    *suite.reference_checks(CONFIG),
]


def tables() -> Iterator[dict[str, str]]:
    """The rows of the page's tables, each by the names of its columns."""
    for block in re.findall(r"(?:^\|.*\n)+", PAGE, re.M):
        header, _, *rows = (re.split(r" *\| *", line.strip())[1:-1] for line in block.splitlines())
        yield from (dict(zip(header, row, strict=True)) for row in rows)


ROWS = list(tables())
QUOTED = [row.get("message") or row["reason"] for row in ROWS]


def quoted(cell: str) -> str:
    """The text of a cell that is a code span."""
    fence, text = re.fullmatch(r"(`+)(.+)\1", cell).groups()
    return text.strip() if len(fence) > 1 else text


def with_ellipses(node: ast.AST) -> str:
    """A string in code as people see it, with an ellipsis for what differs; empty for other nodes."""
    if isinstance(node, ast.JoinedStr):
        parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
        return re.sub("…+", "…", "".join(parts))
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub("…+", "…", template(node.value))
    return ""


def template(text: str) -> str:
    """The template of a check's reason with an ellipsis for each field."""
    return re.sub(r"\{[^{}]*\}", "…", text)


def nodes(*folders: str) -> Iterator[ast.AST]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def texts() -> set[str]:
    """Every string of the code, and every line of the Makefile."""
    strings = {with_ellipses(node) for node in nodes("heartdata", "tasks", "flows", "mlflow")}
    return strings | set((ROOT / "Makefile").read_text(encoding="utf-8").splitlines())


def test_each_message_on_the_page_is_one_of_the_code(texts: set[str]):
    everything = "\n".join(texts)
    assert [cell for cell in QUOTED if quoted(cell) not in everything] == []


def test_each_row_says_what_to_do():
    assert len(ROWS) > 100
    assert [row for row in ROWS if not all(text for name, text in row.items() if name != "check")] == []
    assert len(QUOTED) == len(set(QUOTED))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_the_reason_of_each_check_is_on_the_page(check: suite.Check):
    quotes = [quoted(row.get("message") or row["reason"]) for row in ROWS if row.get("check") == f"`{check.name}`"]
    assert quotes, f"docs/troubleshooting.md needs a row for the check {check.name}"
    has_own_words = bool(re.search(r"\w", template(check.reason).partition(":")[0]))
    assert not has_own_words or any(quote in template(check.reason) for quote in quotes)


def test_each_reason_of_bad_audio_is_on_the_page():
    calls = [node for node in nodes("heartdata", "flows") if isinstance(node, ast.Call)]
    raised = [with_ellipses(call.args[0]) for call in calls if getattr(call.func, "id", "") == "BadAudio" and call.args]
    reasons = [text for text in raised if text.strip("…")]
    assert len(reasons) > 10
    assert [text for text in reasons if not any(quoted(cell) in text for cell in QUOTED)] == []


def test_each_reason_for_a_file_that_is_missing_is_on_the_page():
    (absence,) = (n for n in nodes("heartdata/sources/table") if isinstance(n, ast.FunctionDef) and n.name == "_absence" and n.args.args[0].arg == "self")  # fmt: skip
    reasons = [with_ellipses(node) for node in ast.walk(absence) if isinstance(node, ast.JoinedStr)]
    assert len(reasons) == 5
    assert [text for text in reasons if not any(quoted(cell) in text for cell in QUOTED)] == []
