"""Runs one command until it ends, or until the process that started this one does; bounds the size of its log.

Started by `flows.local.child.Child`. The first line of standard input goes to the command; when standard input closes,
the parent process has ended, even if it was killed, and so does the command with everything that it has started.
"""

import argparse
import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from logging.handlers import RotatingFileHandler
from typing import IO

LOG_BYTES = 5_000_000  # twice that with the older half


def guard(log: str, folder: str, socket: int | None, grace_s: float, echo: bool, command: list[str]) -> int:
    """Run ``command``; returns its exit status, as a shell would.

    The whole process group is killed ``grace_s`` after the command was asked to stop, without asking if that is 0.
    """
    line = sys.stdin.buffer.readline()
    inherited = () if socket is None else (socket,)
    child = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, pass_fds=inherited
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(OSError), child.stdin:
        child.stdin.write(line)

    def stop_with_parent() -> None:
        sys.stdin.buffer.read()
        try:
            if grace_s:
                child.terminate()
                child.wait(grace_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            os.killpg(0, signal.SIGKILL)

    copier = threading.Thread(target=copy_lines, args=(child.stdout, log, echo), daemon=True)
    copier.start()
    threading.Thread(target=stop_with_parent, daemon=True).start()
    status = child.wait()
    copier.join(5)  # what it has started may keep the pipe open
    return 128 - status if status < 0 else status


def copy_lines(output: IO[bytes], log: str, echo: bool) -> None:
    """Append each line to a log that is renamed to LOG.1 when it is full; with ``echo`` also print it."""
    handler = RotatingFileHandler(log, maxBytes=LOG_BYTES, backupCount=1, encoding="utf-8", errors="replace")
    for line in output:
        text = line.decode(errors="replace").rstrip("\n")
        handler.handle(logging.makeLogRecord({"msg": text}))
        if echo:
            with contextlib.suppress(OSError):  # the terminal was closed
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    logging.raiseExceptions = False  # on a full disk the command goes on without a log
    parser = argparse.ArgumentParser()
    parser.add_argument("--log", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--socket", type=int)
    parser.add_argument("--grace-s", type=float, required=True)
    parser.add_argument("--echo", action="store_true")
    parser.add_argument("command", nargs="+")
    # a normal exit would wait for the thread that reads our standard input
    os._exit(guard(**vars(parser.parse_args())))
