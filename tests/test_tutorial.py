"""Each page of the tutorial runs, small and on synthetic recordings; the pages assert their own known results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "tutorial").glob("[0-9]_*.py"))
MADE = [script for script in PAGES if script.with_suffix(".md").exists()]


def markdown_cells(script: str) -> list[str]:
    """The text of the Markdown cells, without comment signs, each on one line."""
    cells = []
    for cell in ("\n" + script).split("\n# %%")[1:]:
        kind, *lines = cell.splitlines()
        if "[markdown]" in kind:
            text = [line.removeprefix("#") for line in lines if line.startswith("#")]
            cells.append(" ".join(" ".join(text).split()))
    return cells


def test_markdown_cells_are_read_without_code():
    script = "# %% [markdown]\n# # A title\n#\n# and  text\n\n\n# %%\nx = 1  # no text\n# %% [markdown]\n# More\n"
    assert markdown_cells(script) == ["# A title and text", "More"]


@pytest.mark.parametrize("script", MADE, ids=lambda script: script.stem)
def test_a_page_has_the_text_of_its_script(script: Path):
    page = " ".join(script.with_suffix(".md").read_text(encoding="utf-8").split())
    cells = markdown_cells(script.read_text(encoding="utf-8"))
    assert cells
    stale = [cell for cell in cells if cell not in page]
    assert not stale, f"{script.stem}.md lacks text of its script; run: make tutorial ONLY={script.name[0]}"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_without_recordings_and_weights(page: Path, tmp_path: Path):
    real = ("HEARTBEAT_BACKBONE", "HEARTBEAT_STUDIES")
    inherited = {name: value for name, value in os.environ.items() if name not in real}
    small = {
        "HEARTBEAT_TUTORIAL_SMALL": "1",
        "HEARTBEAT_DATA": str(tmp_path),  # empty
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
    }
    done = subprocess.run([sys.executable, page], env=inherited | small, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
