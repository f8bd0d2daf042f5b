"""Output in encodings that lack some of its characters."""

import io
import subprocess
import sys

import pytest

CODE = (
    "import sys; from flows.cli.encoding import replace_unknown_characters as replace; replace()\n"
    "from rich.table import Table; from flows.cli.console import Terminal, plain_console, rich_table\n"
    "console = plain_console()\n"
    "with Terminal(console) as terminal: terminal.finished('split', 1.0, 'süß \\u5fc3 \\udcff ≥ 3')\n"
    "console.print(rich_table('T', [{'a': 'b – c'}]))\n"
    "print('✓ é', file=sys.stderr)\n"
    "import subprocess; subprocess.run([sys.executable, '-c', 'print(chr(0x2713))'], check=True)"
)


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("cp1252", "  + split                1.0 s  süß ? ? >= 3"),
        ("iso-8859-1", "  + split                1.0 s  süß ? ? >= 3"),
        ("ascii", "  + split                1.0 s  su? ? ? >= 3"),
        ("cp437", "  + split                1.0 s  süß ? ? ≥ 3"),
        ("utf-8", "  ✓ split                1.0 s  süß 心 ? ≥ 3"),
    ],
)
def test_no_character_stops_the_output(encoding: str, line: str, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True)
    assert run.returncode == 0, run.stderr
    assert line in io.TextIOWrapper(io.BytesIO(run.stdout), encoding).read().splitlines()
    assert run.stderr.strip().decode(encoding) in ("✓ é", "+ é", "+ e")
