"""A pickle that leaves a trace where something loads it."""

import pickle
from pathlib import Path

import pytest


class Planted:
    """``pickle``: loading it creates ``trace``; ``shell``: the same for a shell."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace
        self.shell = f"touch {trace}"
        self.pickle = pickle.dumps(self)

    def __reduce__(self) -> tuple:
        return Path.touch, (self.trace,)

    @property
    def executed(self) -> bool:
        return self.trace.exists()


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    made = Planted(tmp_path / "trace-of-code-that-ran")
    pickle.loads(made.pickle)
    assert made.executed
    made.trace.unlink()
    return made
