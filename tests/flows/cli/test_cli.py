"""The command line: what is wrong is said in one sentence, before anything is started."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers import TINY, beats, write_wav

from flows.cli.main import main, run_config
from flows.cli.predict import accuracy_note
from flows.cli.run import up_command, where_to_look
from flows.local.servers import port_is_free
from heartdata.scoring.calibration import Calibration

PROJECT = Path(__file__).parents[3]
TIMEOUT_S = 120


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
    (folder / "source.yaml").write_text("source: {name: [1]}\n")
    (folder / "empty").mkdir()
    (folder / "file_in_the_way").write_text("")
    return folder


BAD_INPUT = [
    (["--source", "table", "--data", "{r}/absent.csv"], "absent.csv does not exist"),
    (["--source", "table", "--data", "{r}"], "is a folder without one sub-folder of recordings for each class"),
    (["--source", "table", "--data", "{r}/no_label.csv"], "has no label column"),
    (["--source", "table", "--data", "{r}/empty.csv"], "has no rows"),
    (["--source", "table", "--data", "{r}/binary.csv"], "is not UTF-8 text"),
    (["--source", "table", "--data", "{r}/a b é.wav"], "a b é.wav"),
    (["--source", "table"], "source.data is needed: give it with --data"),
    (["--source", "pascal", "--data", "{r}/empty"], "set_a.csv does not exist"),
    (["--source", "nowhere"], "there is no source 'nowhere': choose one of demo"),
    (["--data", "{r}"], "the source demo makes its recordings"),
    (["--set", "training.epoch=3"], "unknown configuration key 'training.epoch'"),
    (["--set", "training.epochs=-1"], "training.epochs = -1: Input should be greater than or equal to 0"),
    (["--set", "training.epochs=0", "--set", "training.frozen_epochs=0"], "epochs = 0 needs frozen_epochs above 0"),
    (["--set", "spectrogram.high_hz=1500"], "low_hz < high_hz <= rate_hz / 2 must hold"),
    (["--set", "nonsense"], "is not of the form key=value"),
    (["--config", "{r}/absent.yaml"], "absent.yaml cannot be read"),
    (["--config", "{r}/settings.yaml"], "training.epochs = 'many'"),
    (["--config", "{r}/source.yaml"], "there is no source [1]: choose one of demo"),
    (["--set", "training.init=imagnet"], "training.init = 'imagnet': choose imagenet, random, auto"),
    (["--set", "registry.tracking_uri=http://me:secret@host"], "MLFLOW_TRACKING_PASSWORD"),
    (["--store", "{r}/file_in_the_way/out"], "cannot write to the output folder"),
    (["--store", "/proc/out"], "cannot write to the output folder"),  # where root may not write either
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


def test_what_was_not_typed_does_not_win(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HEARTBEAT_STORE", str(tmp_path / "in_environment"))
    file = tmp_path / "run.yaml"
    file.write_text(f"source: {{name: table, data: /x.csv}}\nstore: {tmp_path / 'in_file'}\n")
    config = run_config(config=file)
    assert (config.source.name, config.store) == ("table", str(tmp_path / "in_file"))
    assert run_config(config=file, store=str(tmp_path / "typed")).store == str(tmp_path / "typed")
    assert run_config().store == str(tmp_path / "in_environment")


@pytest.mark.parametrize(
    "arguments", [("run", "--bogus"), ("up", "--prefect-port", "0"), ("up", "--mlflow-port=65536")]
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...], heartbeat):
    status, told, _ = heartbeat(*arguments)
    assert status == 2
    assert arguments[1].split("=")[0] in told


def test_ctrl_c_says_so_and_leaves_nothing_running(tmp_path: Path):
    store = tmp_path / "out"
    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "run", "--store", str(store), *settings],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT, start_new_session=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # may be ignored where tests run unwatched
    )  # fmt: skip
    deadline = time.monotonic() + TIMEOUT_S
    while not any(store.glob("facts/v*/*")):
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    out, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 130
    assert err == "heartbeat: stopped; run again to go on from the last finished stage\n"
    assert "Traceback" not in out
    log = store / "logs" / "prefect-server.log"
    ports = re.findall(r"127\.0\.0\.1:(\d+)", log.read_text()) if log.is_file() else []
    assert ports
    assert all(port_is_free(int(port)) for port in ports)


def test_where_to_look_names_a_command_that_works_from_here(tmp_path: Path, monkeypatch):
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "heartbeat").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    monkeypatch.chdir(tmp_path)
    assert up_command("/my out") == ".venv/bin/heartbeat up --store '/my out'"
    monkeypatch.chdir(tmp_path / ".venv")
    assert up_command("/out") == "bin/heartbeat up --store /out"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert up_command("/out") == f"{tmp_path}/.venv/bin/heartbeat up --store /out"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    shown = where_to_look("/out", "http://127.0.0.1:1/#/models/x/versions/1", "a1", "http://here/run", False)
    assert list(shown.items()) == [
        ("First start", "heartbeat up --store /out"),
        ("Prefect UI", "http://here/run"),
        ("MLflow UI", "http://127.0.0.1:1/#/models/x/versions/1"),
    ]
    assert next(iter(where_to_look("/out", "http://127.0.0.1:1/#/x", "a1", "http://here", True))) == "Prefect UI"


@pytest.fixture
def mlflow_of_run_a1() -> Iterator[str]:
    """The address of something that answers as an MLflow which knows the run a1 alone."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path in ("/health", "/api/2.0/mlflow/runs/get?run_id=a1")
            self.send_response(200 if known else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_another_stores_mlflow_is_not_taken_for_ours(mlflow_of_run_a1: str):
    page = "/#/models/x/versions/1"
    ours = where_to_look("/out", mlflow_of_run_a1 + page, "a1", "http://here/run", True)
    assert ours == {"Prefect UI": "http://here/run", "MLflow UI": mlflow_of_run_a1 + page}
    others = where_to_look("/out", mlflow_of_run_a1 + page, "b2", "http://here/run", True)
    assert others["First start"] == f"{up_command('/out')} --prefect-port 4210 --mlflow-port 5010"
    assert others["MLflow UI"] == f"http://127.0.0.1:5010{page}"


def test_where_another_stores_prefect_has_the_port_the_command_names_another():
    shown = where_to_look("/out", "http://127.0.0.1:1/#/x", "a1", "http://127.0.0.1:4210/runs/flow-run/1", False)
    assert shown["First start"] == f"{up_command('/out')} --prefect-port 4210"


@pytest.fixture
def make(tmp_path: Path):
    """Run make on a copy of the Makefile beside an environment that is there; gives what it showed."""
    shutil.copy(PROJECT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "out/mlflow.db", ".venv/ready"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def run(*arguments: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k not in ("SOURCE", "DATA", "STORE", "CONFIG")}
        command = ["make", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    return run


def test_make_passes_on_only_what_was_given(make):
    assert "--source" not in make("-n", "run")
    assert '--source "table" --data "my table.csv"' in make("-n", "up", "SOURCE=table", "DATA=my table.csv")


def test_make_clean_leaves_the_registry(make, tmp_path: Path):
    make("clean")
    assert (tmp_path / "out" / "mlflow.db").is_file()
    assert not (tmp_path / ".venv").exists()


def test_help_names_the_commands(heartbeat):
    status, _, shown = heartbeat("--help")
    assert status == 0
    assert "run" in shown
    assert "up" in shown


def test_version_is_that_of_the_project(heartbeat):
    status, _, shown = heartbeat("--version")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert (status, shown.strip()) == (0, f"heartbeat {project['version']}")


def test_settings_are_shown_as_they_are_typed(heartbeat):
    status, told, _ = heartbeat("settings", "trainng")
    assert status == 2
    assert "no setting begins with 'trainng'; the sections are source, measure, validation" in told
    status, _, shown = heartbeat("settings", "training.ep", "--source", "pascal", "--set", "training.epochs=7")
    assert status == 0
    assert shown.startswith("training.epochs=7 ")
    assert shown.count("\n") == 1
    assert "# epochs of all layers" in shown


def test_command_line_loads_nothing_heavy():
    code = "import sys, flows.cli.main; print([m for m in ('torch', 'prefect', 'mlflow', 'pandas', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_studies_are_listed_and_an_unknown_one_is_refused(heartbeat, tmp_path: Path):
    code, _, out = heartbeat("study", "list")
    assert code == 0
    assert "pascal-b" in out
    assert "cinc2016-lodo" in out
    code, err, _ = heartbeat("study", "pascal-c", "--data", tmp_path, "--store", tmp_path / "out")
    assert code == 2
    assert "there is no study 'pascal-c': choose one of pascal-b" in err
    code, err, _ = heartbeat("study", "pascal-b", "--store", tmp_path / "out")
    assert code == 2
    assert "source.data is needed: give it with --data" in err


def test_how_right_a_model_was_is_said_where_it_was_measured():
    told = accuracy_note(Calibration(coverage=0.5, risk=0.25))
    assert "50% of this model's answers were not unsure, and of these 25% were wrong" in told
    assert accuracy_note(Calibration.model_validate_json('{"temperature": 2.0}')) == ""  # not "0% were wrong"


def test_pretraining_on_recordings_looks_for_near_duplicates_and_on_made_sounds_not(heartbeat, recordings, monkeypatch):
    asked = []
    monkeypatch.setattr("flows.cli.run.run_pipeline", lambda config, verbose: asked.append(config))
    assert heartbeat("pretrain")[0] == 0
    assert heartbeat("pretrain", "--source", "table", "--data", recordings / "good.csv")[0] == 0
    assert [config.validation.near_duplicates for config in asked] == [False, True]
    assert [config.registry.model_name for config in asked] == ["heartbeat-backbone", "heartbeat-backbone-table"]
