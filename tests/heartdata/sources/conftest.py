"""Files for the tests of the sources."""

from pathlib import Path

import pytest
from builders import touch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with audio/ in it: one.wav, süß two.wav and three.wav, all empty."""
    return touch(tmp_path, "audio/one.wav", "audio/süß two.wav", "audio/three.wav")
