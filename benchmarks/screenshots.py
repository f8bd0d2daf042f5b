"""Screenshots for docs/images, and what the commands printed: short runs on synthetic recordings, opened in Chromium.

    make screenshots                                                          # some 10 minutes on two idle cores
    .venv/bin/python -m benchmarks.screenshots --folder kept --only reading

Runs and servers are in a temporary folder, on free ports, and end with the program; with ``--folder`` the runs are kept, and
used again the next time. No page can reach another host, and names of this machine are replaced before a picture is taken.
CHROMIUM names the browser.
"""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Locator, Page, sync_playwright

from benchmarks.pages import DOCS, put_block
from flows.local.child import is_healthy
from flows.local.servers import free_port

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
WIDTH, HEIGHT = 1280, 800
REPORT_WIDTH = 1056  # the width of its text, and a margin
REPORT_HEIGHT = 1180  # of each half of report.png
LIMIT_S = 1800.0
TIMEOUT_MS = 120_000
SETTLED_MS = 4000  # the last thing that moves is Prefect's graph
MOST_BYTES = 200_000
MARGIN = 12
USER, HOST, PROJECT = "you", "laptop", "/home/you/heartbeat"  # names in the pictures
MLFLOW_STATE = {
    "mlflow.workflowType_v1": '"machine_learning"',  # what its switch "Model training" sets
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
    "mlflow.assistant.panelOpen_v1": "false",
}
SECOND_RUN = ["training.seed=1", "promotion.min_subjects=8"]  # few subjects, so that the run is short
REPLACE_NAMES = """names => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) for (const [pattern, name] of names)
    walk.currentNode.data = walk.currentNode.data.replace(new RegExp(pattern, "g"), name);
}"""


@dataclass(frozen=True)
class Camera:
    """Takes pictures of pages, with the names of this machine replaced."""

    page: Page
    names: list[tuple[str, str]]  # regular expressions, and what stands for them

    def open(self, address: str, text: str, width: int = WIDTH, height: int = HEIGHT) -> None:
        """Open a page and wait until it shows ``text`` and no longer moves."""
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.goto("about:blank")  # or only the part of an address behind # would change, and nothing be loaded
        self.page.goto(address)
        self.page.get_by_text(text).first.wait_for()
        self.page.wait_for_timeout(SETTLED_MS)

    def take(self, name: str, until: Locator | None = None, start: Locator | None = None, full: bool = False) -> None:
        """Write docs/images/NAME.png: what is on the screen, the whole page, or from ``start`` (its top) to ``until``."""
        top = _box(start)["y"] - MARGIN if start else 0.0
        height = _box(until)["y"] + _box(until)["height"] - top if until else None
        save(name, self.picture(top, height, full))

    def picture(self, top: float = 0, height: float | None = None, full: bool = False) -> Image.Image:
        """What is on the screen, the whole page, or ``height`` pixels of it from ``top``."""
        self.page.evaluate(REPLACE_NAMES, self.names)
        width = self.page.viewport_size["width"]  # type: ignore[index]
        clip: Any = {"x": 0, "y": top, "width": width, "height": height} if height else None
        picture = self.page.screenshot(clip=clip, full_page=full or clip is not None, animations="disabled")
        return Image.open(io.BytesIO(picture)).convert("RGB")


def save(name: str, picture: Image.Image) -> None:
    """Write docs/images/NAME.png, with fewer colours where it would be large."""
    path = DOCS / "images" / f"{name}.png"
    picture.save(path, optimize=True)
    for number in (256, 128, 64):
        if path.stat().st_size > MOST_BYTES:
            picture.quantize(number, dither=Image.Dither.NONE).save(path, optimize=True)
    sys.stdout.write(f"{path.name}: {path.stat().st_size / 1000:.0f} kB\n")


def side_by_side(left: Image.Image, right: Image.Image) -> Image.Image:
    """Two pictures of one size, with a line between them, in the width of a page."""
    both = Image.new("RGB", (left.width + right.width, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    both.paste("#9aa5b1", (left.width - 1, 0, left.width + 1, left.height))
    return both.resize((WIDTH, round(both.height * WIDTH / both.width)), Image.Resampling.LANCZOS)


def _box(locator: Locator) -> Any:
    """Where an element is in the whole page."""
    return locator.evaluate(
        "e => { const r = e.getBoundingClientRect(); return {y: r.y + window.scrollY, height: r.height}; }"
    )


def environment() -> dict[str, str]:
    """That of the commands: a width of the terminal, and a user with a short name."""
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "HEARTBEAT_"))
    }
    return own | {"COLUMNS": "120", "LOGNAME": USER, "PYTHONPATH": str(DOCS.parent)}


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("heartbeat")), *arguments]


def run(folder: Path, *arguments: str) -> str:
    """What a command prints in ``folder``, without its progress. Raises RuntimeError unless it has done its work."""
    done = subprocess.run(
        command(*arguments), cwd=folder, env=environment(), text=True, timeout=LIMIT_S, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    if done.returncode not in (0, 3, 4, 5):  # nothing new, refused, not promoted
        raise RuntimeError(f"heartbeat {' '.join(arguments)}: {done.stdout[-2000:]}")
    lines = [line.rstrip() for line in done.stdout.splitlines() if not re.match(r"    \S+ \d+/\d+|  \w+ing ", line)]
    return "\n".join(lines)


@contextlib.contextmanager
def served(folder: Path, arguments: Sequence[str], health: Sequence[str]) -> Iterator[None]:
    """A command that serves until it is stopped, ready when all addresses of ``health`` answer and it says so."""
    log = folder / f"{arguments[0]}.log"
    with log.open("w") as output:
        process = subprocess.Popen(command(*arguments), cwd=folder, env=environment(), stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + LIMIT_S
        while "Ctrl-C" not in log.read_text() or not all(map(is_healthy, health)):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"heartbeat {arguments[0]} does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.5)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_S)


def printed(text: str, names: Sequence[tuple[str, str]]) -> str:
    """What a command printed, as a block of Markdown."""
    for pattern, name in [*names, (r"\S+/\.venv/bin", ".venv/bin")]:
        text = re.sub(pattern, name, text)
    return f"```text\n{text.strip()}\n```"


def first_run(camera: Camera, folder: Path) -> None:
    """docs/first-run.md: `make run`, its report, and the pages of `heartbeat up`."""
    log = folder / "run.txt"
    if not log.exists():
        log.write_text(run(folder, "run", "--store", "out"))
        shutil.copyfile(folder / "out/latest/report.html", folder / "first.html")  # the second run writes over it
        run(folder, "champion", "promote", "1", "--model", "heartbeat-demo", "--reason", "to try it", "--store", "out")
    put_block("first-run.md", "make run", printed(log.read_text(), camera.names))
    camera.open((folder / "first.html").as_uri(), "What went in", REPORT_WIDTH)
    camera.take("report-first", until=camera.page.locator("section#data"))

    prefect, mlflow = free_port(), free_port()
    ports = ["--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]
    at, registry = f"http://127.0.0.1:{prefect}", f"http://127.0.0.1:{mlflow}"
    with served(folder, ["up", "--store", "out", *ports], [f"{at}/api/health", f"{registry}/health"]):
        prefect_pages(camera, at)
        mlflow_pages(camera, registry)


def trying(camera: Camera, folder: Path) -> None:
    """The page of `heartbeat serve`, with an answer."""
    port = free_port()
    with served(
        folder, ["serve", "--model", "models:/heartbeat-demo/1", "--port", str(port), "--store", "out"],
        [f"http://127.0.0.1:{port}/health"],
    ):  # fmt: skip
        camera.open(f"http://127.0.0.1:{port}", "Choose a recording", width=820)
        camera.page.set_input_files("#file", next((folder / "out/made").rglob("M000_AV.wav")))
        camera.page.wait_for_selector("#result:visible")
        camera.page.wait_for_timeout(SETTLED_MS)
        camera.take("serve", full=True)


def prefect_pages(camera: Camera, at: str) -> None:
    page = camera.page
    camera.open(f"{at}/v2/deployments", "full-pipeline", height=560)
    page.get_by_text("Not Ready").first.wait_for(state="hidden")  # until the runner serves them
    camera.take("prefect-deployments")
    camera.open(f"{at}/v2/runs", "Completed")
    run_address = page.locator("a[href*='/runs/flow-run/']").first.get_attribute("href")
    camera.open(f"{at}{run_address}", "Task runs")
    page.locator("canvas").first.wait_for()
    buttons = page.locator("canvas").first.locator("xpath=following::button")
    buttons.first.click()  # it centres the graph, and draws its axis, which is wrong at first
    page.wait_for_timeout(SETTLED_MS)
    page.mouse.move(10, 600)
    camera.take("prefect-run")
    camera.open(f"{at}/v2/artifacts/key/heartbeat-summary", "Created")
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    page.get_by_text("The decision").first.wait_for()
    page.wait_for_timeout(SETTLED_MS)
    camera.take("prefect-summary")


def mlflow_pages(camera: Camera, at: str) -> None:
    page = camera.page
    camera.open(f"{at}/#/experiments", "heartbeat")
    page.get_by_role("link", name="heartbeat", exact=True).click()
    page.get_by_text("macro-F1").first.wait_for()
    page.wait_for_timeout(SETTLED_MS)
    page.get_by_text("macro-F1").first.click()
    page.get_by_text("test/macro_f1").first.wait_for()
    page.wait_for_timeout(SETTLED_MS)
    camera.take("mlflow-run")
    camera.open(f"{at}/#/models/heartbeat-demo", "Registered at")
    page.get_by_text("Tags", exact=True).first.click()  # folds them
    page.wait_for_timeout(SETTLED_MS)
    camera.take("mlflow-model")


def reading(camera: Camera, folder: Path) -> None:
    """docs/reading.md: the report of a run that has a champion to beat, and what the checks show."""
    log = folder / "second.txt"
    if not log.exists():
        log.write_text(run(folder, "run", "--store", "out", *(f"--set={setting}" for setting in SECOND_RUN)))
    camera.open((folder / "out/latest/report.html").as_uri(), "What went in", REPORT_WIDTH)
    camera.take("report-decision", until=camera.page.locator("section#decision"))
    listen_y = _box(camera.page.locator("section#listen h2"))["y"] - MARGIN
    save("report", side_by_side(camera.picture(0, REPORT_HEIGHT), camera.picture(listen_y, REPORT_HEIGHT)))
    for name in ("scores", "slices", "calibration", "confusion"):
        section = camera.page.locator(f"section#{name}")
        camera.take(f"report-{name}", until=section, start=section.locator("h2"))
    for name, title in (
        ("mistakes", "Worst mistakes"),
        ("labels", "Suspected label errors"),
        ("quarantined", "Quarantined recordings"),
    ):
        heading = camera.page.locator("h3", has_text=title)
        third = heading.locator("xpath=following-sibling::div[contains(@class, 'cards')][1]/article").nth(2)
        camera.take(f"report-{name}", until=third, start=heading)
    docs = next((folder / "out/data-docs").glob("*/index.html"))
    camera.open(docs.as_uri(), "recordings")
    camera.take("data-docs")


def main(arguments: Sequence[str] | None = None) -> None:
    parts = {"first": first_run, "trying": trying, "reading": reading}
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="keeps the runs, and holds those of an earlier time")
    parser.add_argument("--only", choices=parts)
    given = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="heartbeat-")))
        folder.mkdir(exist_ok=True)
        folder = folder.resolve()
        browser = stack.enter_context(sync_playwright()).chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            ],
        )
        stack.callback(browser.close)
        context = browser.new_context(color_scheme="light", reduced_motion="reduce")
        context.add_init_script(
            f"try {{ for (const [name, value] of {json.dumps(list(MLFLOW_STATE.items()))}) localStorage.setItem(name, value) }} catch {{}}"
        )
        context.set_default_timeout(TIMEOUT_MS)
        host = re.escape(socket.gethostname())
        names = [(re.escape(str(folder)), PROJECT), (f"{host}-[0-9a-f]{{12}}", HOST), (f"@{host}", f"@{HOST}")]
        for name in [given.only] if given.only else parts:
            parts[name](Camera(context.new_page(), names), folder)


if __name__ == "__main__":
    main()
