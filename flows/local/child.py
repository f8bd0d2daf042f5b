"""Processes that this one starts, watches and starts again: they end with it, even if it is killed."""

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heartdata.errors import HeartbeatError

START_TIMEOUT_S = 300
SILENCE_LIMIT_S = 120  # a server that has answered health checks, and does so no more, is started again
PROBE_EVERY_S = 5.0
STOP_TIMEOUT_S = 5
LONGEST_DELAY_S = 60
RAN_WELL_S = 300  # a child that ends after that is started again at once
END_LINES = 50  # earlier errors did not end the process
EXCEPTION = re.compile(r"(\w+\.)*\w*(Error|Exception|Exit)\b")  # begins the last line of a traceback


def is_healthy(url: str, timeout_s: float = 2) -> bool:
    """Whether a server answers 200 at ``url``."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:
            return response.status == 200
    except (OSError, ValueError, http.client.HTTPException):  # ValueError: not an address
        return False


@dataclass
class Child:
    """One process and all that it starts.

    ``health``: a URL that answers 200 once it is ready, or None; ``folder``: its current folder; ``stdin_line``: a line for its
    standard input; ``listener``: a socket that it inherits, which stays open while it is down, so that connections wait;
    ``prepare``: called before each start; ``echo``: print its output, too.
    """

    name: str
    command: Sequence[str]
    health: str | None
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path()
    stdin_line: str = ""
    listener: socket.socket | None = None
    prepare: Callable[[], object] = lambda: None
    grace_s: float = STOP_TIMEOUT_S
    echo: bool = False
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)  # None: not started yet

    @property
    def is_running(self) -> bool:
        """Whether the process was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process, in a session of its own."""
        self.prepare()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        options = [f"--log={self.log.absolute()}", f"--folder={self.folder}", f"--grace-s={self.grace_s}"]
        inherited = [] if self.listener is None else [self.listener.fileno()]
        options += [f"--socket={number}" for number in inherited] + ["--echo"] * self.echo
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.local.guard", *options, "--", *self.command],
                stdin=subprocess.PIPE, stdout=None if self.echo else log, stderr=log, start_new_session=True,
                env={**os.environ, "PYTHONSAFEPATH": "1", **self.environment},  # as python -P, for its children, too
                pass_fds=inherited,
            )  # fmt: skip
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(f"{self.stdin_line}\n".encode())  # type: ignore[union-attr]
            self.process.stdin.flush()  # type: ignore[union-attr]

    def wait_ready(self) -> None:
        """Wait until it answers. Raises `HeartbeatError` if it ends or takes too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not is_healthy(self.health or ""):
            if not self.is_running:
                self.stop()
                raise HeartbeatError(f"the {self.name} did not start ({self.reason()}): see {self.log}")
            if time.monotonic() > deadline:
                self.stop()
                raise HeartbeatError(
                    f"the {self.name} did not answer at {self.health} within {START_TIMEOUT_S} s: run again, or see {self.log}"
                )
            time.sleep(0.2)

    def reason(self) -> str:
        """Why it ended, by what it has logged since its start."""
        if self.process and self.process.returncode in (128 + signal.SIGKILL, -signal.SIGKILL):
            return "it was killed"
        try:
            content = self.log.read_bytes()
        except OSError as error:
            return f"its log cannot be read: {error.strerror}"
        start = self._log_start if self._log_start <= len(content) else 0  # else a new log was begun
        logged = content[start:].decode(errors="replace")
        if "Can't locate revision" in logged:
            program = self.name.split()[0]
            return f"its database was made by a newer version of {program}: use that version, or another store"
        return logged_reason(logged) or "it ended without a word"

    def begin_stop(self) -> None:
        """Ask the process to stop, without waiting: see `flows.local.guard`."""
        if self.process and self.process.stdin:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def stop(self) -> None:
        """Stop the process and all that it has started, if they still run."""
        self.begin_stop()
        if self.process:  # a signal may come before its start
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(self.grace_s + 2)
        self.kill()

    def close(self) -> None:
        """Stop listening on its port."""
        if self.listener:
            self.listener.close()

    def kill(self) -> None:
        """Kill the process and all that it has started."""
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def logged_reason(logged: str) -> str:
    """The line at the end of a log that says why its process ended: its last exception, else its last error, else its last.

    Lines of level INFO say nothing of the kind.
    """
    lines = [line for line in logged.splitlines()[-END_LINES:] if line.strip() and "INFO" not in line]
    exceptions = [line for line in lines if EXCEPTION.match(line)]
    errors = [line for line in lines if "error" in line.lower()]
    last = (exceptions or errors or lines or [""])[-1]
    return textwrap.shorten(last.removeprefix("ERROR:"), 200, placeholder=" ...")


@contextlib.contextmanager
def kept_running(children: Sequence[Child], report: Callable[[str], object]) -> Iterator[None]:
    """Start the running ``children`` again whenever one ends or answers no more; each time ``report`` gets one line."""
    stopping = threading.Event()
    threads = [
        threading.Thread(target=_keep_running, args=(child, stopping, report), daemon=True) for child in children
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def _keep_running(child: Child, stopping: threading.Event, report: Callable[[str], object]) -> None:
    """Never gives up: what is wrong, such as a full disk, may pass."""
    failures = 0
    while True:
        started_s = time.monotonic()
        reason = _what_broke(child, stopping)
        if stopping.is_set():
            return
        child.kill()
        failures = 0 if time.monotonic() - started_s > RAN_WELL_S else failures
        delay_s = min(2**failures, LONGEST_DELAY_S)
        failures += 1
        report(f"the {child.name} ended ({reason}); it starts again in {delay_s} s; log: {child.log}")
        while not stopping.wait(delay_s):
            try:
                child.start()
                break
            except Exception as error:  # no memory, no file handles, or its preparation failed
                report(
                    f"the {child.name} cannot start ({type(error).__name__}: {error}); next try in {LONGEST_DELAY_S} s"
                )
                delay_s = LONGEST_DELAY_S


def _what_broke(child: Child, stopping: threading.Event) -> str:
    """Wait until the child has ended, or answers no more, and say why; or until we are ``stopping``."""
    answered_s = probed_s = time.monotonic()
    limit_s = START_TIMEOUT_S
    while not stopping.wait(0.2):
        if not child.is_running:
            return child.reason()
        if child.health is None or time.monotonic() - probed_s < PROBE_EVERY_S:
            continue
        probed_s = time.monotonic()
        if is_healthy(child.health):
            answered_s, limit_s = time.monotonic(), SILENCE_LIMIT_S
        elif time.monotonic() - answered_s > limit_s:
            return f"it did not answer for {limit_s} s"
    return ""
