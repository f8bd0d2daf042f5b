"""The command line: wrong input is refused in one sentence, before any work starts."""

import contextlib
import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import psutil
import pytest
from helpers import TINY, beats, http_server, write_wav
from rich.console import Console

from flows.cli.options import run_config
from flows.cli.predict import accuracy_note
from flows.cli.run import START, START_MLFLOW, up_command, where_to_look
from flows.cli.up import _source, introduce
from heartdata.config_file import build_config, options_of, parse_change
from heartdata.scoring.calibration import Calibration

PROJECT = Path(__file__).parents[3]
TIMEOUT_S = 300


@pytest.fixture(scope="module")
def recordings(tmp_path_factory) -> Path:
    """A folder with one good recording, and tables and settings that are each wrong in one way."""
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
    (["--data", "{r}"], "--data needs a source: add --source table (or pascal, "),
    (["--set", "training.epoch=3"], "unknown configuration key 'training.epoch'"),
    (["--set", "training.epochs=-1"], "training.epochs = -1: Input should be greater than or equal to 0"),
    (["--set", "training.epochs=0", "--set", "training.frozen_epochs=0"], "which needs frozen_epochs above 0"),
    (["--set", "spectrogram.high_hz=1500"], "low_hz < high_hz <= rate_hz / 2 must hold"),
    (["--set", "nonsense"], "is not of the form key=value"),
    (["--config", "{r}/absent.yaml"], "absent.yaml cannot be read"),
    (["--config", "{r}/settings.yaml"], "training.epochs = 'many'"),
    (["--config", "{r}/source.yaml"], "there is no source [1]: choose one of demo"),
    (["--set", "training.init=imagnet"], "training.init = 'imagnet': choose imagenet, random, auto"),
    (["--set", "registry.tracking_uri=http://me:secret@host"], "MLFLOW_TRACKING_PASSWORD"),
    (["--store", "{r}/file_in_the_way/out"], "cannot write to the output folder"),
    (["--store", "{r}/st?x"], "has a '?', which databases and MLflow read as part of a URI"),
    (["--store", "/proc/out"], "cannot write to the output folder"),  # not writable by root either
]


@pytest.mark.parametrize(("arguments", "message"), BAD_INPUT, ids=[message[:40] for _, message in BAD_INPUT])
def test_bad_input_is_reported_in_one_sentence(arguments, message: str, heartbeat, recordings: Path, monkeypatch):
    monkeypatch.setenv("HEARTBEAT_STORE", str(recordings / "store"))
    status, err, _ = heartbeat("run", *(a.format(r=recordings) for a in arguments))
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (recordings / "store").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_refused(heartbeat, tmp_path: Path):
    tmp_path.chmod(0o500)
    status, err, _ = heartbeat("run", "--store", tmp_path / "out")
    assert status == 2
    assert "cannot write to the output folder" in err


@pytest.mark.parametrize("has_report", [True, False])
def test_after_a_refused_run_the_report_is_said_to_be_of_an_earlier_one(has_report: bool, heartbeat, tmp_path: Path):
    page = tmp_path / "out/latest/report.html"
    if has_report:
        page.parent.mkdir(parents=True)
        page.touch()
    status, _, out = heartbeat(
        "run", "--source", "table", "--data", tmp_path / "absent.csv", "--store", tmp_path / "out"
    )
    assert (status, f"note {page} is of an earlier run" in out) == (2, has_report)


def test_a_failed_run_is_reported_in_one_sentence(heartbeat, prefect_server, tmp_path: Path, monkeypatch):
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    # this process is prepared already
    monkeypatch.setattr("flows.cli.run.prepare_environment", lambda store, verbose: tmp_path / "log")
    (tmp_path / "recordings.csv").write_text("path,label\nabsent one.wav,normal\nabsent two.wav,murmur\n")
    status, err, out = heartbeat(
        "run", "--source", "table", "--data", tmp_path / "recordings.csv", "--store", tmp_path / "out"
    )
    assert status == 4
    assert "2 of 2 recordings have no file, for example absent one.wav" in err
    assert "Traceback" not in err + out


def test_the_registry_is_asked_before_the_work(heartbeat, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("flows.cli.run.prepare_environment", lambda store, verbose: tmp_path / "log")
    monkeypatch.setattr("flows.cli.run.prefect_api", lambda store: pytest.fail("a server was started"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    status, err, _ = heartbeat("run", "--store", tmp_path / "out")
    assert status == 2
    assert err.startswith("heartbeat: MLflow cannot be used at http://127.0.0.1:9 (no answer: ")
    assert len(err.splitlines()) == 1


def test_options_win_over_the_file_and_the_file_over_the_environment(tmp_path: Path, monkeypatch):
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
    status, err, _ = heartbeat(*arguments)
    assert status == 2
    assert arguments[1].split("=")[0] in err


def test_ctrl_c_stops_the_run_and_its_server(tmp_path: Path):
    store = tmp_path / "out"
    settings = [f"--set={key}={value}" for key, value in TINY.items()]
    run = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "run", "--store", str(store), *settings],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT, start_new_session=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # may be ignored in CI
    )  # fmt: skip
    deadline = time.monotonic() + TIMEOUT_S
    while not any(store.glob("facts/v*/*")):
        assert run.poll() is None, run.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    home = str(store / "prefect")
    servers = [p for p in psutil.process_iter(["environ"]) if (p.info["environ"] or {}).get("PREFECT_HOME") == home]
    words = set[str]()
    for process in servers:
        with contextlib.suppress(psutil.Error):
            words |= {*process.cmdline()}
    assert {"uvicorn", "flows.local.guard"} <= words
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    out, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 130
    assert err == "heartbeat: stopped; run again to resume (training continues from its last complete epoch)\n"
    assert "Traceback" not in out
    assert psutil.wait_procs(servers, timeout=TIMEOUT_S)[1] == []


def test_the_command_for_the_servers_works_in_the_current_folder(tmp_path: Path, monkeypatch):
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
    shown = where_to_look(
        up_command("/out"), "http://127.0.0.1:1/#/models/x/versions/1", "a1", "http://here/run", False
    )
    assert list(shown.items()) == [
        (START, "heartbeat up --store /out"),
        ("Prefect UI", "http://here/run"),
        ("MLflow UI", "http://127.0.0.1:1/#/models/x/versions/1"),
    ]
    assert next(iter(where_to_look("c", "http://127.0.0.1:1/#/x", "a1", "http://here", True))) == "Prefect UI"


def test_commands_for_another_shell_have_the_path_of_the_environment(tmp_path: Path, monkeypatch):
    programs = tmp_path / "my [env]" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "prefect"):
        (programs / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")  # activated in this shell
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    monkeypatch.chdir(tmp_path)
    output = io.StringIO()
    introduce(build_config(), 4200, 5000, Console(file=output, width=400))
    commands = [shlex.split(line) for line in output.getvalue().splitlines() if "deployment run" in line]
    assert [words[:4] for words in commands] == [
        [str(programs / "prefect"), "deployment", "run", name]
        for name in ("heartbeat/full-pipeline", "score/new-recordings")
    ]


def test_the_command_for_the_servers_schedules_what_was_run(heartbeat, recordings: Path, tmp_path: Path, monkeypatch):
    shown = []
    monkeypatch.setattr(
        "flows.cli.run.run_pipeline", lambda config, verbose, typed: shown.append(up_command("/o", typed))
    )
    monkeypatch.chdir(recordings)
    (tmp_path / "s.yaml").write_text("training: {epochs: 2}\n")
    options = [
        "--source",
        "table",
        "--data",
        "good.csv",
        "--config",
        str(tmp_path / "s.yaml"),
        "--set",
        "training.seed=1",
    ]
    for typed in (options, []):
        assert heartbeat("run", *typed, "--store", tmp_path / "out")[0] == 0
        assert shlex.split(shown[-1])[1:] == ["up", *typed, "--store", "/o"]
    assert _source(run_config("table", "good.csv")) == "table, good.csv"
    assert _source(run_config()) == "demo"


@pytest.mark.parametrize(
    ("name", "data", "changes"),
    [("demo", None, {}),
     ("demo", None, {"source.duration_s": [2.0, 3.0], "training.epochs": 1, "split.strategy": "hash"}),
     ("table", "x y.csv", {"source.columns.label": "null", "source.columns.subject": "Case: no.", "training.init": "a b.safetensors"}),
     ("pascal", "/x", {"validation.overrides": {"set_a.x": {"min_duration_s": 0.5}}}),
     ("cinc2016", "/x", {"training.init": "models:/a@champion", "registry.tracking_uri": "sqlite:////m.db"}),
     ("mix", None, {"source.sources": [{"name": "demo", "sites": 2}, {"name": "table", "data": "x.csv"}]})],
)  # fmt: skip
def test_a_configuration_is_given_again_by_its_options(name: str, data: str | None, changes: dict[str, Any]):
    config = build_config(name, data, None, changes)
    words = iter(options_of(config))
    options = list(zip(words, words, strict=True))
    settings = dict(parse_change(text) for option, text in options if option == "--set")
    named = dict(options)
    assert build_config(named.get("--source"), named.get("--data"), None, settings) == config
    assert len(settings) == len(changes)


def test_the_mlflow_server_of_another_store_is_not_linked():
    known, page = ("/health", "/api/2.0/mlflow/runs/get?run_id=a1"), "/#/models/x/versions/1"
    with http_server(lambda path: b"" if path in known else None) as mlflow:
        ours = where_to_look("c", mlflow + page, "a1", "http://here/run", True)
        assert ours == {"Prefect UI": "http://here/run", "MLflow UI": mlflow + page}
        others = where_to_look("c", mlflow + page, "b2", "http://here/run", True)
    assert others[START_MLFLOW] == "c --prefect-port 4210 --mlflow-port 5010"
    assert others["MLflow UI"] == f"http://127.0.0.1:5010{page}"


def test_the_command_names_another_port_where_another_stores_prefect_server_has_the_usual_one():
    shown = where_to_look("c", "http://127.0.0.1:1/#/x", "a1", "http://127.0.0.1:4210/runs/flow-run/1", False)
    assert shown[START] == "c --prefect-port 4210"


@pytest.fixture
def make(tmp_path: Path):
    """Run make on a copy of the Makefile next to a ready environment; returns its output."""
    shutil.copy(PROJECT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt", "out/mlflow.db", ".venv/ready"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def run(*arguments: str) -> str:
        environment = {k: v for k, v in os.environ.items() if k not in ("SOURCE", "DATA", "STORE", "CONFIG")}
        command = ["make", "-C", str(tmp_path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    return run


def test_make_passes_on_only_the_variables_that_are_set(make):
    assert "--source" not in make("-n", "run")
    assert '--source "table" --data "my table.csv"' in make("-n", "up", "SOURCE=table", "DATA=my table.csv")


def test_make_clean_keeps_the_registry(make, tmp_path: Path):
    make("clean")
    assert (tmp_path / "out" / "mlflow.db").is_file()
    assert not (tmp_path / ".venv").exists()


def test_help_names_the_commands(heartbeat):
    status, _, out = heartbeat("--help")
    assert status == 0
    assert all(name in out for name in ("run", "pretrain", "study", "predict", "up", "settings", "data"))


def test_version_is_that_of_the_project(heartbeat):
    status, _, out = heartbeat("--version")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert (status, out.strip()) == (0, f"heartbeat {project['version']}")


def test_settings_are_listed_as_they_are_typed(heartbeat):
    status, err, _ = heartbeat("settings", "trainng")
    assert status == 2
    assert "no setting begins with 'trainng'; the sections are source, measure, validation" in err
    status, _, out = heartbeat("settings", "training.ep", "--source", "pascal", "--set", "training.epochs=7")
    assert status == 0
    assert out.startswith("training.epochs=7 ")
    assert out.count("\n") == 1
    assert "# epochs of all layers" in out


def test_the_data_of_a_source_are_listed_as_required_unless_they_are_given(heartbeat, tmp_path: Path):
    for name in ("pascal", "table"):
        status, _, out = heartbeat("settings", "source.data", "--source", name)
        assert (status, out.split()[:2]) == (0, ["source.data", "(required)"])
    _, _, out = heartbeat("settings", "source.data", "--source", "pascal", "--data", tmp_path)
    assert out.startswith(f'source.data="{tmp_path}" ')
    (tmp_path / "own.yaml").write_text("source: {name: table, data: /x/own.csv}\n")
    _, _, out = heartbeat("settings", "source.data", "--source", "table", "--config", tmp_path / "own.yaml")
    assert out.startswith('source.data="/x/own.csv" ')


def test_help_loads_nothing_heavy():
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


def test_a_models_accuracy_is_shown_only_where_it_was_measured():
    text = accuracy_note(Calibration(coverage=0.5, risk=0.25))
    assert "decided 50% (the rest: unsure), and 25% of these decisions were wrong" in text
    assert accuracy_note(Calibration.model_validate_json('{"temperature": 2.0}')) == ""  # not "0% were wrong"


def test_pretraining_looks_for_near_duplicates_only_in_real_recordings(heartbeat, recordings, monkeypatch):
    configs = []
    monkeypatch.setattr("flows.cli.run.run_pipeline", lambda config, *_: configs.append(config))
    assert heartbeat("pretrain")[0] == 0
    assert heartbeat("pretrain", "--source", "table", "--data", recordings / "good.csv")[0] == 0
    assert [config.validation.near_duplicates for config in configs] == ["off", "refuse"]
    assert [config.registry.model_name for config in configs] == ["heartbeat-backbone", "heartbeat-backbone-table"]
