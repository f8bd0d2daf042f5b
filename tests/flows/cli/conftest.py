"""Shared fixtures: the command."""

import sys

import pytest

from flows.cli.main import main


@pytest.fixture
def heartbeat(monkeypatch, capsys):
    """Run the command in this process; returns the exit status, stderr and stdout."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["heartbeat", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, err, out

    return run
