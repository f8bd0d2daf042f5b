"""The command line: what is wrong is said in one sentence, before anything is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import beats, write_wav

from flows.cli import main


@pytest.fixture
def heartbeat(monkeypatch, capsys):
    """Run the command in this process; gives the exit status and what stood on stderr and stdout."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["heartbeat", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return ended.value.code, err, out

    return run


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """A folder with one good recording and tables that are wrong each in its own way."""
    folder = tmp_path_factory.mktemp("my heart süß")
    write_wav(folder / "a b é.wav", beats())
    (folder / "no_label.csv").write_text("path,age\na b é.wav,3\n")
    (folder / "empty.csv").write_text("path,label\n")
    (folder / "binary.csv").write_bytes(bytes(range(256)))
    (folder / "good.csv").write_text("path,label\na b é.wav,normal\n")
    (folder / "settings.yaml").write_text("training: {epochs: many}\n")
    (folder / "empty").mkdir()
    (folder / "file_in_the_way").write_text("")
    return folder


BAD_INPUT = [
    (["--source", "table", "--data", "{r}/absent.csv"], "absent.csv does not exist"),
    (["--source", "table", "--data", "{r}"], "is a folder: give the table itself"),
    (["--source", "table", "--data", "{r}/no_label.csv"], "has no label column"),
    (["--source", "table", "--data", "{r}/empty.csv"], "has no rows"),
    (["--source", "table", "--data", "{r}/binary.csv"], "is not UTF-8 text"),
    (["--source", "table", "--data", "{r}/a b é.wav"], "a b é.wav"),
    (["--source", "table"], "source.data is needed: give it with --data"),
    (["--source", "pascal", "--data", "{r}/empty"], "set_a.csv is not there"),
    (["--source", "nowhere"], "there is no source 'nowhere': choose one of demo"),
    (["--data", "{r}"], "the source demo makes its recordings"),
    (["--set", "training.epoch=3"], "unknown configuration key 'training.epoch'"),
    (["--set", "training.epochs=0"], "training.epochs = 0: Input should be greater than or equal to 1"),
    (["--set", "spectrogram.high_hz=1500"], "low_hz < high_hz <= rate_hz / 2 must hold"),
    (["--set", "nonsense"], "is not of the form key=value"),
    (["--config", "{r}/absent.yaml"], "absent.yaml cannot be read"),
    (["--config", "{r}/settings.yaml"], "training.epochs = 'many'"),
    (["--store", "{r}/file_in_the_way/out"], "cannot write to the output folder"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD_INPUT, ids=[said[:40] for _, said in BAD_INPUT])
def test_bad_input_is_told_in_a_sentence(arguments: list[str], said: str, heartbeat, recordings: Path, monkeypatch):
    monkeypatch.setenv("HEARTBEAT_STORE", str(recordings / "store"))
    status, told, _ = heartbeat("run", *(a.format(r=recordings) for a in arguments))
    assert status == 2
    assert said in told
    assert len(told.strip().splitlines()) == 1
    assert not (recordings / "store").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_store(heartbeat, tmp_path: Path):
    tmp_path.chmod(0o500)
    status, told, _ = heartbeat("run", "--store", tmp_path / "out")
    assert status == 2
    assert "cannot write to the output folder" in told


def test_help_names_the_commands(heartbeat):
    status, _, shown = heartbeat("--help")
    assert status == 0
    assert "run" in shown
    assert "up" in shown


def test_command_line_loads_nothing_heavy():
    code = "import sys, flows.cli; print([m for m in ('torch', 'prefect', 'mlflow', 'pandas', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
