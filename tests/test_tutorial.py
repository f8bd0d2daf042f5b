"""Each page of the tutorial runs, small and on synthetic sounds; the pages assert their own known results."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "tutorial").glob("[0-9]_*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_runs_without_recordings_and_weights(page: Path, tmp_path: Path):
    inherited = {name: value for name, value in os.environ.items() if name != "HEARTBEAT_BACKBONE"}
    small = {
        "HEARTBEAT_TUTORIAL_SMALL": "1",
        "HEARTBEAT_DATA": str(tmp_path),  # empty
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error::DeprecationWarning:__main__",
    }
    done = subprocess.run([sys.executable, page], env=inherited | small, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
