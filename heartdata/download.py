"""Fetching published files: what the publisher's list of checksums names, and nothing under its name that differs.

pooch compares checksums and renames a file once its checksum matches. It has no resume, opens a connection a file and
would try a 404 again, so the transfer (`Transfer`) and the retries are our own.
"""

import re
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import quote

import pooch
import requests

from heartdata.errors import HeartbeatError

THREADS = 4  # the servers are run for research: no more than a browser would open
ATTEMPTS = 5
WAIT_S = 1.0  # before the second attempt; doubled for each further one
TIMEOUT_S = (20, 60)  # to connect, and between two pieces of the answer
MAX_LIST_BYTES, MAX_FILE_BYTES = 100_000_000, 2_000_000_000  # of a list of checksums, of a published file
PACKED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z")
_SUM = re.compile(r"([0-9a-fA-F]{64})\s+\*?(\S.*)")

pooch.get_logger().setLevel("ERROR")  # it would name each file on stderr

T = TypeVar("T")
Progress = Callable[[int, int, int], None]  # files done, files in all, bytes received


class FetchError(HeartbeatError):
    """Something cannot be fetched."""


class FileRefused(FetchError):
    """One file cannot be had; the others may."""


class Stopped(Exception):
    """The fetch ended before this transfer."""


def parse_sums(text: str, url: str) -> dict[str, str]:
    """Names to sha256 from a list as sha256sum writes it. Raises `FetchError` for one that leads out of the folder."""
    sums = {}
    for line in filter(str.strip, text.splitlines()):
        found = _SUM.fullmatch(line.strip())
        if not found:
            raise FetchError(f"{url} is no list of checksums (it says {line.strip()[:60]!r}): is the address right?")
        name = found[2]
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable() or not path.parts:
            raise FetchError(f"{url} names {name!r}, which leads out of the folder: nothing was fetched from there")
        sums[str(path)] = found[1].lower()
    if not sums:
        raise FetchError(f"{url} names no files: is the address right?")
    return sums


def chosen(sums: Mapping[str, str], parts: Iterable[str], url: str, beside: Collection[str] = ()) -> dict[str, str]:
    """Of ``sums`` the files in the folders ``parts``, those beside the folders and ``beside``; packed ones left out.

    Raises `FetchError` for a part that is not there.
    """
    folders = {PurePosixPath(name).parts[0] for name in sums if "/" in name}
    for part in parts:
        if part not in folders:
            raise FetchError(f"{url} names no folder {part!r}: choose of {', '.join(sorted(folders))}")
    wanted = {*parts}
    return {
        name: sha256
        for name, sha256 in sums.items()
        if ("/" not in name or PurePosixPath(name).parts[0] in wanted or name in beside)
        and not name.lower().endswith(PACKED)
    }


def missing_files(folder: Path, wanted: Mapping[str, str]) -> dict[str, str]:
    """Of ``wanted`` the files that are not in ``folder``, or not with that sha256."""

    def lacks(name: str, sha256: str) -> bool:
        try:
            return pooch.file_hash(str(folder / name)) != sha256
        except OSError:  # not there; or fetching will tell
            return True

    with ThreadPoolExecutor(THREADS) as pool:
        lacking = pool.map(lacks, wanted, wanted.values())
        return {name: wanted[name] for name, is_missing in zip(wanted, lacking, strict=True) if is_missing}


def fetch_text(url: str) -> str:
    """A list of checksums. Raises `FetchError`."""
    with requests.Session() as session:
        text = _again(url, lambda: b"".join(_pieces(_opened(session, url), url, MAX_LIST_BYTES)))
    return text.decode("utf-8", "replace")


def fetch_files(
    base_url: str, folder: Path, wanted: Mapping[str, str], progress: Progress = lambda done, total, received: None
) -> None:
    """Fetch the files ``wanted`` (name to sha256) into ``folder``, a few at a time.

    What cannot be had by itself (404, a wrong checksum) does not keep the others; the first of them is named in the
    `FetchError` raised at the end. A server that cannot be reached ends it at once. What came is kept: run again.
    """
    registry = pooch.create(
        path=str(folder), base_url=base_url, registry=dict(wanted),
        urls={name: f"{base_url}/{quote(name)}" for name in wanted},
    )  # fmt: skip
    work = Work(registry)
    refused: list[FileRefused] = []
    pool = ThreadPoolExecutor(THREADS)
    running = [pool.submit(work.fetch, name) for name in wanted]
    patient = True
    try:
        for done, ended in enumerate(as_completed(running), 1):
            refused += filter(None, [_refusal(ended)])
            progress(done, len(running), work.received)
    except KeyboardInterrupt:
        patient = False  # a server that has stopped answering would hold up whoever pressed Ctrl-C
        raise
    finally:
        work.stop.set()
        pool.shutdown(wait=patient, cancel_futures=True)
        wait(running, timeout=2)
    if refused:
        more = f" ({len(refused)} of {len(wanted)} files could not be fetched)" if len(refused) > 1 else ""
        raise FetchError(f"{refused[0]}{more}")


def _refusal(ended: Future[None]) -> FileRefused | None:
    error = ended.exception()
    if error is None or isinstance(error, FileRefused):
        return error
    raise error


class Work:
    """What the threads of one fetch share: the files to be had, the bytes that came, the sign to stop."""

    def __init__(self, registry: pooch.Pooch) -> None:
        self.registry = registry
        self.stop = threading.Event()
        self.received = 0
        self._lock = threading.Lock()
        self._local = threading.local()

    def count(self, size_bytes: int) -> None:
        """More has come. Raises `Stopped` when nobody waits for it any longer."""
        with self._lock:
            self.received += size_bytes
        if self.stop.is_set():
            raise Stopped

    def fetch(self, name: str) -> None:
        """Fetch one file. Raises `FileRefused` or `FetchError`."""
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
        url, path = self.registry.get_url(name), Path(self.registry.path) / name
        transfer = Transfer(self._local.session, path.with_name(f".{path.name}.part"), self.count)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _again(url, lambda: self._verified(name, transfer), self.stop)
        except OSError as error:
            raise FetchError(
                f"cannot write {path} ({error.strerror or error}): make room or make it writable, or choose another "
                "folder with --to"
            ) from error

    def _verified(self, name: str, transfer: "Transfer") -> None:
        for afresh in (False, True):
            try:
                self.registry.fetch(name, downloader=transfer)
                return
            except requests.RequestException:  # some are ValueErrors too
                raise
            except ValueError as error:  # pooch's word for a wrong checksum; it has deleted what came
                if transfer.resumed and not afresh:  # what an earlier transfer left may be at fault
                    continue
                raise FileRefused(
                    f"{name} from {self.registry.get_url(name)} has another checksum than its publisher's list gives, "
                    "so it was not kept: fetch again, and if it stays so tell the publisher"
                ) from error


class Transfer:
    """A downloader for pooch that goes on where an earlier one stopped, if the server lets it (HTTP Range).

    What has come lies in ``partial`` until it is whole. ``resumed``: some of it came in an earlier transfer.
    """

    def __init__(self, session: requests.Session, partial: Path, count: Callable[[int], None]) -> None:
        self._session, self._partial, self._count = session, partial, count
        self.resumed = False

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Fetch ``url`` and put it at ``output_file``. Raises `requests.RequestException`, OSError, `Stopped`."""
        held = self._partial.stat().st_size if self._partial.is_file() else 0
        with _opened(self._session, url, held) as response:
            is_all = response.status_code == 416  # there is nothing behind what is held
            begins = response.headers.get("Content-Range", "").startswith(f"bytes {held}-")
            self.resumed = held > 0 and (is_all or (response.status_code == 206 and begins))
            if not is_all:
                try:
                    with self._partial.open("ab" if self.resumed else "wb") as file:
                        for piece in _pieces(response, url, MAX_FILE_BYTES - (held if self.resumed else 0)):
                            file.write(piece)
                            self._count(len(piece))
                except FileRefused:
                    self._partial.unlink()
                    raise
        self._partial.replace(output_file)


def _pieces(response: requests.Response, url: str, room_bytes: int) -> Iterator[bytes]:
    """What the server sends; raises `FileRefused` when that is more than ``room_bytes``."""
    for piece in response.iter_content(1 << 18):
        room_bytes -= len(piece)
        if room_bytes < 0:
            raise FileRefused(f"{url} is larger than any such file of a known data set: is the address right?")
        yield piece


def _opened(session: requests.Session, url: str, start: int = 0) -> requests.Response:
    """The answer for ``url`` from byte ``start`` on, not yet read. Raises `requests.RequestException`."""
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S)
    if not (start and response.status_code == 416):
        response.raise_for_status()
    return response


def _again(url: str, work: Callable[[], T], stop: threading.Event | None = None) -> T:
    """What ``work`` gives, tried several times where the fault may pass: a lost connection, an answer of 5xx or 429.

    Raises `FileRefused` for other faults, `FetchError` when no attempt worked, `Stopped` once ``stop`` is set.
    """
    stop = stop or threading.Event()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return work()
        except requests.RequestException as error:
            status = error.response.status_code if error.response is not None else None
            fault = f"the server answered {status}" if status else type(error).__name__
            if isinstance(error, ValueError) or (status is not None and status < 500 and status != 429):
                raise FileRefused(f"{url} cannot be had ({fault}): is the address right?") from error
            if attempt == ATTEMPTS:
                raise FetchError(
                    f"{url} cannot be had after {ATTEMPTS} attempts ({fault}): when the network and the server are "
                    "there, run again, which goes on from here"
                ) from error
        if stop.wait(WAIT_S * 2 ** (attempt - 1)):
            break
    raise Stopped
