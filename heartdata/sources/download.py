"""Downloading published files: only those in the publisher's list of checksums, each kept only if its checksum matches.

pooch downloads, retries, compares checksums and renames; this module chooses the files, runs a few downloads at a time
and turns faults into sentences.
"""

import re
import tempfile
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pooch
import requests

from heartdata.errors import HeartbeatError

THREADS = 4  # the servers are run for research: no more than a browser would open
ATTEMPTS = 5  # pooch waits 1, 2, 3 and 4 s between them
TIMEOUT_S = (20, 60)  # to connect, and between two pieces of the response
CHUNK_BYTES = 1 << 18
MAX_LIST_BYTES, MAX_FILE_BYTES = 100_000_000, 2_000_000_000  # of a list of checksums, of a published file
PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z")
_SUM = re.compile(r"([0-9a-fA-F]{64})\s+\*?(\S.*)")

pooch.get_logger().setLevel("ERROR")  # it would log each file to stderr

Progress = Callable[[int, int, int], None]  # files done, files in all, bytes received


class FetchError(HeartbeatError):
    """Something cannot be downloaded."""


class FileRefused(FetchError):
    """One file cannot be downloaded; others may."""


class Cancelled(Exception):
    """The download was stopped because another failed or the user interrupted it."""


def parse_sums(text: str, url: str) -> dict[str, str]:
    """Names to sha256 from a list as sha256sum writes it. Raises `FetchError` for a name that leads out of the folder."""
    sums = {}
    for line in filter(str.strip, text.splitlines()):
        match = _SUM.fullmatch(line.strip())
        if not match:
            raise FetchError(f"{url} is not a list of checksums (it says {line.strip()[:60]!r}): check the address")
        name = match[2]
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable() or not path.parts:
            raise FetchError(
                f"{url} names {name!r}, which leads out of the folder, so nothing was downloaded: tell the publisher"
            )
        sums[str(path)] = match[1].lower()
    if not sums:
        raise FetchError(f"{url} names no files: check the address")
    return sums


def chosen(sums: Mapping[str, str], parts: Iterable[str], url: str, beside: Collection[str] = ()) -> dict[str, str]:
    """Of ``sums`` the files in the folders ``parts``, those in no folder and those ``beside``, without archives.

    Raises `FetchError` for an unknown folder.
    """
    folders = {PurePosixPath(name).parts[0] for name in sums if "/" in name}
    for part in parts:
        if part not in folders:
            raise FetchError(f"{url} names no folder {part!r}: choose one of {', '.join(sorted(folders))}")
    wanted = {*parts}
    return {
        name: sha256
        for name, sha256 in sums.items()
        if ("/" not in name or PurePosixPath(name).parts[0] in wanted or name in beside)
        and not name.lower().endswith(PACKED)
    }


def missing_files(folder: Path, wanted: Mapping[str, str]) -> dict[str, str]:
    """Of ``wanted`` (name to sha256) the files that are not in ``folder`` or have another checksum."""

    def is_missing(name: str) -> bool:
        try:
            return pooch.file_hash(str(folder / name)) != wanted[name]
        except OSError:
            return True

    with ThreadPoolExecutor(THREADS) as pool:
        return {
            name: wanted[name] for name, missing in zip(wanted, pool.map(is_missing, wanted), strict=True) if missing
        }


def fetch_text(url: str) -> str:
    """The content of a list of checksums. Raises `FetchError`."""
    base_url, _, name = url.rpartition("/")
    with tempfile.TemporaryDirectory() as folder:
        _fetch(_registry(base_url, Path(folder), {name: None}), name, MAX_LIST_BYTES, threading.Event())
        return (Path(folder) / name).read_text(encoding="utf-8", errors="replace")


def fetch_files(
    base_url: str, folder: Path, wanted: Mapping[str, str], progress: Progress = lambda done, total, received: None
) -> None:
    """Download the files ``wanted`` (name to sha256) into ``folder``, a few at a time.

    A file that cannot be downloaded (404, a wrong checksum) does not stop the others; the first such is named in the
    `FetchError` raised at the end. A server that cannot be reached stops all. Complete files are kept for the next run.
    """
    registry = _registry(base_url, folder, wanted)
    refused: list[FileRefused] = []
    received_bytes = 0
    stop = threading.Event()
    pool = ThreadPoolExecutor(THREADS)
    running = [pool.submit(_fetch, registry, name, MAX_FILE_BYTES, stop) for name in wanted]
    try:
        for done, future in enumerate(as_completed(running), 1):
            try:
                received_bytes += future.result()
            except FileRefused as error:
                refused.append(error)
            progress(done, len(running), received_bytes)
    finally:
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)  # waiting for a dead server would ignore Ctrl-C for a minute
        wait([future for future in running if not future.cancelled()], timeout=2)
    if refused:
        more = f" ({len(refused)} of {len(wanted)} files could not be downloaded)" if len(refused) > 1 else ""
        raise FetchError(f"{refused[0]}{more}")


def _registry(base_url: str, folder: Path, sums: Mapping[str, str | None]) -> pooch.Pooch:
    urls = {name: f"{base_url}/{quote(name)}" for name in sums}
    return pooch.create(folder, base_url, registry=dict(sums), urls=urls, retry_if_failed=ATTEMPTS - 1)


def _fetch(registry: pooch.Pooch, name: str, max_bytes: int, stop: threading.Event) -> int:
    """Download one file; returns its size in bytes. Raises `FileRefused`, `FetchError` or `Cancelled`."""
    url, path = registry.get_url(name), Path(registry.path) / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # two threads of pooch may fail to make the same folder
        registry.fetch(name, downloader=_Downloader(max_bytes, stop))
        return path.stat().st_size
    except requests.RequestException as error:
        raise FetchError(
            f"{url} cannot be downloaded after {ATTEMPTS} attempts ({_reason(error)}): run again when the network and the "
            "server are up; files that are complete are not downloaded again"
        ) from error
    except ValueError as error:  # pooch raises it for a wrong checksum, and deletes the file
        raise FileRefused(
            f"{name} from {url} has another checksum than in its publisher's list, so it was not kept: run again, and "
            "tell the publisher if that does not help"
        ) from error
    except OSError as error:
        raise FetchError(
            f"cannot write {path} ({error.strerror or error}): make room or make it writable, or choose another folder "
            "with --to"
        ) from error


class _Downloader(pooch.HTTPDownloader):
    """pooch's, without retries where they cannot help. It is its own progress bar, which limits size and time."""

    def __init__(self, max_bytes: int, stop: threading.Event) -> None:
        super().__init__(self, CHUNK_BYTES, timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"})
        self.max_bytes, self.stop = max_bytes, stop
        self.url = ""
        self.total = self.received_bytes = 0  # pooch sets the total

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Download ``url``. Raises `requests.RequestException`, which pooch retries, `FileRefused`, `Cancelled`."""
        self.url = url
        self.reset()
        self.update(0)
        Path(output_file).unlink(missing_ok=True)  # made by tempfile, so that nobody else could read it
        try:
            super().__call__(url, output_file, pooch, check_only)
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            if isinstance(error, ValueError) or (status is not None and status < 500 and status != 429):
                raise FileRefused(f"{url} cannot be downloaded ({_reason(error)}): check the address") from error
            raise

    def update(self, size_bytes: int) -> None:
        """At most ``size_bytes`` more have been received. Raises `Cancelled` or `FileRefused`."""
        self.received_bytes += size_bytes
        if self.stop.is_set():
            raise Cancelled
        if self.received_bytes > self.max_bytes + CHUNK_BYTES:
            raise FileRefused(f"{self.url} is larger than any such file of a known data set: check the address")

    def reset(self) -> None:
        self.received_bytes = 0

    def close(self) -> None:
        """Part of pooch's interface of progress bars."""


def _reason(error: requests.RequestException) -> str:
    return f"the server answered {error.response.status_code}" if error.response is not None else type(error).__name__
