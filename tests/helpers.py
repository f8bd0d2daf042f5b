"""Synthetic recordings and workbooks, the smallest demo run, small servers, and pages read as a browser would."""

import itertools
import os
import socket
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import uvicorn
from markdown_it import MarkdownIt

from flows.local.servers import port_is_free
from heartdata.config import RegistryConfig, RunConfig
from heartdata.config_file import build_config
from heartdata.storage.store import Store
from tasks.registry.client import connect

REAL = Path(__file__).parents[2] / "shared" / "data"
needs_pascal = pytest.mark.skipif(
    not (REAL / "pascal" / "set_b.csv").is_file(), reason="the PASCAL recordings are not in ../shared/data/pascal"
)

WAIT_S = 300.0
TINY = {
    "source.subjects_per_class": 3,
    "source.sites": 1,
    "source.duration_s": [2.0, 3.0],
    "training.init": "random",
    "training.epochs": 1,
    "training.width": 64,
    "training.batch": 4,
    "evaluation.bootstrap": 20,
    "validation.max_quarantined_fraction": 0.5,
}


def tone(frequency_hz: float, duration_s: float = 3.0, rate_hz: int = 4000, level: float = 0.5) -> np.ndarray:
    """A sine, float32."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return (level * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def beats(rate_bpm: float = 75, duration_s: float = 5.0, rate_hz: int = 4000, seed: int = 0) -> np.ndarray:
    """Short 60 Hz bursts at a heart rate over faint noise, float32."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    since_s = time_s % (60 / rate_bpm)
    noise = np.random.default_rng(seed).normal(0, 0.005, len(time_s))
    return (0.6 * np.exp(-((since_s / 0.05) ** 2)) * np.sin(2 * np.pi * 60 * time_s) + noise).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray, rate_hz: int = 4000, subtype: str = "PCM_16") -> Path:
    """Write samples; returns the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


def fake_ffmpeg(folder: Path, output: str = "head -c 48000 /dev/zero", code: int = 0) -> None:
    """A program ``ffmpeg`` in ``folder`` that prints what the real one prints of a file, and the PCM of ``output``."""
    folder.mkdir(exist_ok=True)
    script = folder / "ffmpeg"
    script.write_text(
        "#!/bin/sh\nPATH=/usr/bin:/bin\necho '  Duration: 00:00:03.00, start: 0.000000' >&2\n"
        f"echo '  Stream #0:0: Audio: aac, 8000 Hz, mono, fltp' >&2\n{output}\nexit {code}\n"
    )
    script.chmod(0o755)


def write_xlsx(path: Path, merged: tuple[str, ...] = (), **sheets: list[list]) -> Path:
    """A workbook of text, numbers and dates (ISO cells); ``merged``: cell ranges in every sheet, such as A2:A4."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    doc = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006/relationships"

    def cell(value: object) -> str:
        kind = "n" if isinstance(value, int | float) else "d" if str(value).startswith("2020-") else "str"
        return f'<c t="{kind}"><v>{value}</v></c>' if value is not None else "<c/>"

    numbered = list(enumerate(sheets, 1))
    names = "".join(f'<sheet name="{name}" sheetId="{i}" r:id="r{i}"/>' for i, name in numbered)

    def related(targets: dict[str, str]) -> str:
        ids = enumerate(targets.items(), 1)
        each = (f'<Relationship Id="r{i}" Type="{doc}/{kind}" Target="{to}"/>' for i, (to, kind) in ids)
        return f'<Relationships xmlns="{package}">{"".join(each)}</Relationships>'

    each = "".join(f'<mergeCell ref="{cells}"/>' for cells in merged)
    joined = f"<mergeCells>{each}</mergeCells>" if merged else ""
    with zipfile.ZipFile(path, "w") as book:
        book.writestr("xl/workbook.xml", f'<workbook {space} xmlns:r="{doc}"><sheets>{names}</sheets></workbook>')
        book.writestr("_rels/.rels", related({"xl/workbook.xml": "officeDocument"}))
        book.writestr("xl/_rels/workbook.xml.rels", related({f"worksheets/{i}.xml": "worksheet" for i, _ in numbered}))
        for i, name in numbered:
            rows = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in sheets[name])
            sheet = f"<worksheet {space}><sheetData>{rows}</sheetData>{joined}</worksheet>"
            book.writestr(f"xl/worksheets/{i}.xml", sheet)
    return path


def tiny(store: Path, **changes: Any) -> RunConfig:
    """The smallest demo run; ``changes`` with double underscores for dots."""
    named = {key.replace("__", "."): value for key, value in changes.items()}
    return build_config("demo", changes={**TINY, "store": str(store), **named})


def registry(store: Path) -> Any:
    """An MLflow client for the registry in a run's store."""
    return connect(RegistryConfig(), Store(store))


def wait_until(condition: Callable[[], Any], what: str = "", every_s: float = 0.1) -> Any:
    """What ``condition`` returns once that is true; fails after WAIT_S."""
    deadline = time.monotonic() + WAIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        time.sleep(every_s)
    return value


def free_port() -> int:
    """A port of loopback that no other test process takes before it is used.

    Each has ports of its own, below those that the system gives to connections.
    """
    first = 20_000 + 500 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return next(port for number in _numbers if port_is_free(port := first + number % 500))


_numbers = itertools.count(os.getpid())


@contextmanager
def served_app(app: Any) -> Iterator[str]:
    """An ASGI app on loopback; yields its address and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            wait_until(lambda: server.started or not thread.is_alive(), "the app")
            assert server.started
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class QuietHTTPServer(ThreadingHTTPServer):
    """A server on loopback, which does not report clients that close their connections early."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def http_server(response: Callable[[str], bytes | tuple[int, bytes] | None]) -> Iterator[str]:
    """A server on loopback that answers GET with ``response(path)``: a content, a status and a content, or None (404)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = response(self.path)
            status, content = content if isinstance(content, tuple) else (404 if content is None else 200, content)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None: ...

    with QuietHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class DisplayLog:
    """A progress display that records the end of each stage (name, whether unchanged, detail) and every note."""

    def __init__(self) -> None:
        self.said: list[tuple[str, bool, str]] = []
        self.remarks: list[str] = []

    def remarked(self, text: str) -> None:
        self.remarks.append(text)

    def started(self, stage: str, total: int, unit: str) -> None: ...
    def advanced(self, stage: str, done: int, total: int, detail: str) -> None: ...
    def finished(self, stage: str, seconds: float | None, detail: str) -> None:
        self.said.append((stage, seconds is None, detail))


IMAGE = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(2)</script>"
LABEL = f"{IMAGE}$styling|`{SCRIPT}`\n**bold** [link](http://x.org) $x^2$ {{{{ 7*7 }}}} &lt;"


class PageReader(HTMLParser):
    """Collects a page's text and tags and, in ``found``, what injected markup would do: run a script or link away."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.tags.append(tag)
        if any(name == "onerror" for name, _ in attrs) or ("href", "http://x.org") in attrs:
            self.found.append(self.get_starttag_text() or tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.inside == "script" and data.startswith("alert("):
            self.found.append(f"<script>{data}")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def parsed(page: str) -> PageReader:
    parser = PageReader()
    parser.feed(page)
    parser.close()
    return parser


def words(page: str) -> PageReader:
    """A Markdown page, rendered with tables, strikethrough and raw HTML."""
    return parsed(MarkdownIt("gfm-like", {"linkify": False}).render(page))


def use_small_network(patch: pytest.MonkeyPatch) -> None:
    """resnet10 in place of resnet34: the same kinds of layers, four times faster; tests of flows train the real one."""
    from torchvision.models.resnet import BasicBlock, ResNet  # loads torch

    patch.setattr(
        "torchvision.models.resnet34",
        lambda weights, num_classes: ResNet(BasicBlock, [1, 1, 1, 1], num_classes=num_classes),
    )
