"""README.md as a newcomer follows it: each line of its command blocks is run, from top to bottom, in one folder."""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pandas as pd
import pytest
from helpers import beats, free_port, registry, wait_until, write_wav
from markdown_it import MarkdownIt

from benchmarks.readme import RESULTS, results_block, results_table
from flows.cli.exit_codes import ExitCode
from flows.cli.main import main
from flows.local.servers import is_healthy, running_api
from heartdata.storage.store import Store

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [token.content for token in MarkdownIt().parse(README) if token.type in ("fence", "code_block")]
LINES = [line.partition("#")[0].strip() for block in BLOCKS for line in block.splitlines() if line.strip()]

PREFECT_PORT, MLFLOW_PORT, PORT = free_port(), free_port(), free_port()
API = f"http://127.0.0.1:{PREFECT_PORT}/api"
SMALL = (
    "--set training.init=random --set training.epochs=1 --set training.width=64 --set training.batch=4 "
    "--set evaluation.bootstrap=20"
)
BOTH_LABELS = "--set split.seed=3"  # with few subjects, hash leaves a part without a label by some seeds
FROM_THE_FIRST_RUN_ON = f"--set split.strategy=hash {BOTH_LABELS}"  # as the README says where recordings are added
IN_CI = "run by .ci/run"
# What is added to each line as it is printed. The recordings that the lines name are made by `recordings`.
ADDED = {
    "make run": IN_CI,
    "make test": IN_CI,
    "heartbeat data inspect --source table --data recordings.csv": "",
    "heartbeat run --source table --data recordings.csv": f"{SMALL} {FROM_THE_FIRST_RUN_ON}",
    "heartbeat run --source table --data recordings.csv --set source.columns.label=Finding "
    "--set source.columns.subject=Case": f"{SMALL} {FROM_THE_FIRST_RUN_ON}",
    "heartbeat run --source cinc2016 --data path/to/cinc2016": SMALL,
    "heartbeat up --source table --data recordings.csv --set split.strategy=hash": f"{SMALL} {BOTH_LABELS} "
    f"--prefect-port {PREFECT_PORT} --mlflow-port {MLFLOW_PORT}",
    ".venv/bin/prefect deployment run heartbeat/full-pipeline --watch": f"PREFECT_API_URL={API} in the environment",
    "heartbeat predict recording.wav --explain why/": "",
    "heartbeat score new_recordings/ --out predictions.parquet": "",
    "heartbeat serve": f"--port {PORT}",
}


def test_every_line_of_the_readme_is_known_here():
    assert list(ADDED) == LINES


@pytest.mark.parametrize("line", [line for line, added in ADDED.items() if added == IN_CI])
def test_what_ci_runs_is_a_line_there_and_a_target_of_make(line: str):
    assert re.search(rf"^{line}\b", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    subprocess.run([*line.split(), "--dry-run"], check=True, capture_output=True, cwd=ROOT)


def test_every_score_is_in_the_page_of_the_study_whose_command_is_beside_it():
    _, _, *rows = results_block(README).splitlines()
    for row in rows:
        link, _, *scores, command = (cell.strip() for cell in row.strip("|").split("|"))
        page = (ROOT / link.rpartition("(")[2].rstrip(")")).read_text(encoding="utf-8")
        values = " ".join(scores).replace("±", "").split()
        assert len(values) >= 4
        assert [value for value in values if value not in page] == []
        assert command.rstrip("`") in page


@pytest.mark.skipif(
    not RESULTS.is_file(), reason="no results page: heartbeat study results --out docs/results makes it"
)
def test_the_table_of_results_is_that_of_the_results_page():
    assert results_block(README) == results_table(RESULTS.read_text(encoding="utf-8"))


def test_a_row_of_the_results_page_has_its_title_and_command_in_the_readme():
    page = """# Results

Values are means.

| study | arm | metric | resnet34 | at its operating point | simple features | metadata only | reference |
| --- | --- | --- | --- | --- | --- | --- | --- |
| [`pascal-b`](pascal-b/README.md) |  | macro-F1 | 0.572 ± 0.014 (0.521-0.613) | 0.6 | 0.5 ± 0.1 (0.4-0.6) | 0.3 | 0.470 |
| [`article`](article/README.md) | by subject | macro-F1 | 0.4 | 0.4 | 0.5 | 0.4 |  |

| study | command | recorded |
| --- | --- | --- |
| [`pascal-b`](pascal-b/README.md) | `heartbeat study pascal-b --seeds 3` | 2030-01-02 |
| [`article`](article/README.md) | `heartbeat study article --seeds 1` | 2030-01-02 |
"""
    _, _, *rows = results_table(page).splitlines()
    assert rows == [
        "| [PASCAL set B: normal, murmur, extrastole; 5 folds by subject](docs/results/pascal-b/README.md) | macro-F1 | "
        "0.572 ± 0.014 (0.521-0.613) | 0.5 | 0.3 | 0.470 | `heartbeat study pascal-b --seeds 3` |",
        "| [What tutorials do, by subject](docs/results/article/README.md) | macro-F1 | 0.4 | 0.5 | 0.4 |  | "
        "`heartbeat study article --seeds 1` |",
    ]


def recordings(folder: Path) -> None:
    """The recordings that README's lines name: of twelve subjects, of whom every other one has a faster heart."""
    for number in range(12):
        samples = beats(60 + 30 * (number % 2) + number, 4.0, seed=number)
        write_wav(folder / f"audio/{number}.wav", samples)
        write_wav(folder / f"path/to/cinc2016/training-a/a{number + 1:04}.wav", samples[::2], rate_hz=2000)
    rows = [f"audio/{n}.wav,{('normal', 'murmur')[n % 2]},P{n},{('normal', 'murmur')[n % 2]},P{n}" for n in range(12)]
    (folder / "recordings.csv").write_text("\n".join(["file,diagnosis,patient id,Finding,Case", *rows]) + "\n")
    reference = "".join(f"a{number + 1:04},{(-1, 1)[number % 2]}\n" for number in range(12))
    (folder / "path/to/cinc2016/training-a/REFERENCE.csv").write_text(reference)
    write_wav(folder / "recording.wav", beats(72, 4.0, seed=100))
    for number in range(2):
        write_wav(folder / f"new_recordings/{number}.wav", beats(80 + number, 4.0, seed=200 + number))


@pytest.mark.slow
def test_the_readme_works_from_top_to_bottom(prefect_server, tmp_path: Path, monkeypatch, capsys):
    from prefect.settings import PREFECT_API_URL, PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    recordings(tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    monkeypatch.chdir(tmp_path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())  # instead of a temporary server for each command
    out = tmp_path / "out"
    lines = iter(LINES)

    def words(line: str) -> list[str]:
        return shlex.split(f"{line} {ADDED[line]}")

    def follow(line: str, status: int = 0) -> str:
        """Run a command of heartbeat, the next line, in this process; returns what it printed."""
        assert next(lines) == line
        monkeypatch.setattr(sys, "argv", words(line))
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == status, printed.err + printed.out
        return printed.out

    @contextmanager
    def serving(line: str, is_ready: Callable[[], object]) -> Iterator[None]:
        """The command of the next line as a process, until Ctrl-C."""
        assert next(lines) == line
        log = tmp_path / "server.log"
        with log.open("wb") as output:
            process = subprocess.Popen(words(line), stdout=output, stderr=output, env=environment)
        try:
            wait_until(lambda: process.poll() is not None or is_ready(), line)
            assert process.poll() is None, log.read_text()
            yield
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0, log.read_text()
        finally:
            process.kill()
            process.wait()

    assert [next(lines), next(lines)] == ["make run", "make test"]
    assert "12" in follow("heartbeat data inspect --source table --data recordings.csv")
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: out / "results"}):
        follow("heartbeat run --source table --data recordings.csv", ExitCode.GATES_NOT_PASSED)
        assert (out / "latest/report.html").is_file()
        follow(
            "heartbeat run --source table --data recordings.csv --set source.columns.label=Finding "
            "--set source.columns.subject=Case",
            ExitCode.NOTHING_NEW,
        )
        follow("heartbeat run --source cinc2016 --data path/to/cinc2016", ExitCode.GATES_NOT_PASSED)

    versions = registry(out).search_model_versions()
    nightly = "heartbeat up --source table --data recordings.csv --set split.strategy=hash"
    with serving(nightly, lambda: running_api(Store(out)) == API):
        assert next(lines) == ".venv/bin/prefect deployment run heartbeat/full-pipeline --watch"
        command = ".venv/bin/prefect deployment run heartbeat/full-pipeline --watch"
        asked = {**environment, "PREFECT_API_URL": API, "PREFECT_HOME": str(tmp_path / "client")}
        watched = subprocess.run(shlex.split(command), capture_output=True, text=True, env=asked)
        assert watched.returncode == 0, watched.stdout + watched.stderr
    assert len(registry(out).search_model_versions()) == len(versions) == 2  # a night without new recordings

    follow("heartbeat predict recording.wav --explain why/")
    assert len(list((tmp_path / "why").glob("*.png"))) == 1
    follow("heartbeat score new_recordings/ --out predictions.parquet")
    assert pd.read_parquet("predictions.parquet")["error"].isna().tolist() == [True, True]
    address = f"http://127.0.0.1:{PORT}"
    with serving("heartbeat serve", lambda: is_healthy(f"{address}/health")):
        assert "Try a heart sound recording" in httpx.get(address).text
        answer = httpx.post(f"{address}/predict", files={"file": Path("recording.wav").read_bytes()}, timeout=60).json()
        assert sum(answer["predictions"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert list(lines) == []
