"""Downloading from a local server: interruptions are retried, and a file with a wrong checksum is not kept."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest
from helpers import QuietHTTPServer

from heartdata.sources import download
from heartdata.sources.download import FetchError, chosen, fetch_files, fetch_text, missing_files, parse_sums

BODY = bytes(range(256)) * 4000  # 1 MB, so that a transfer can break off


def sums_of(**files: bytes) -> dict[str, str]:
    """Names, with ``__`` for the slash, to checksums."""
    return {name.replace("__", "/") + ".wav": hashlib.sha256(body).hexdigest() for name, body in files.items()}


@dataclass
class Server:
    """Serves ``files`` by path. ``requests`` are the paths that were requested."""

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)  # path to the bytes sent before the connection breaks, once
    statuses: dict[str, list[int]] = field(default_factory=dict)  # path to the statuses of its first responses
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path
        self.requests.append(path)
        content = self.files.get(path)
        status = self.statuses[path].pop(0) if self.statuses.get(path) else 200 if content is not None else 404
        body = content if content and status == 200 else b""
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        sent = self.cut.pop(path, len(body))
        request.wfile.write(body[:sent])
        request.close_connection = sent < len(body)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.respond(self)

        def log_message(self, *_: object) -> None:
            pass

    with QuietHTTPServer(("127.0.0.1", 0), Handler) as http:
        served.url = f"http://127.0.0.1:{http.server_port}"
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        yield served
        http.shutdown()


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_downloads_only_what_is_missing_or_wrong(server: Server, tmp_path: Path):
    content = {f"training-b/b{n:04d}.wav": bytes([n]) * 100 for n in range(20)} | {"training-b/ä #1?.hea": b"x"}
    server.files = {f"/{quote(name)}": body for name, body in content.items()}
    wanted = {name: hashlib.sha256(body).hexdigest() for name, body in content.items()}
    counts = []
    assert missing_files(tmp_path, wanted) == wanted
    fetch_files(server.url, tmp_path, wanted, lambda *now: counts.append(now))
    assert files_of(tmp_path) == content
    assert counts[-1] == (21, 21, 2001)
    assert missing_files(tmp_path, wanted) == {}
    (tmp_path / "training-b/b0003.wav").write_bytes(b"bad")
    (tmp_path / "training-b/b0004.wav").unlink()
    server.requests.clear()
    missing = missing_files(tmp_path, wanted)
    assert sorted(missing) == ["training-b/b0003.wav", "training-b/b0004.wav"]
    fetch_files(server.url, tmp_path, missing)
    assert len(server.requests) == 2
    assert files_of(tmp_path) == content
    (tmp_path / "usual").touch()
    assert (tmp_path / "training-b/b0003.wav").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("statuses", [[503], [500, 502, 429, 504]], ids=str)
def test_temporary_faults_are_retried(statuses: list[int], server: Server, tmp_path: Path):
    server.files, server.statuses = {"/a.wav": b"good"}, {"/a.wav": list(statuses)}
    fetch_files(server.url, tmp_path, sums_of(a=b"good"))
    assert files_of(tmp_path) == {"a.wav": b"good"}
    assert len(server.requests) == len(statuses) + 1


def test_an_interrupted_transfer_is_retried_and_leaves_nothing_if_that_fails(
    server: Server, tmp_path: Path, monkeypatch
):
    server.files, server.cut = {"/a.wav": BODY}, {"/a.wav": 600_000}
    fetch_files(server.url, tmp_path / "retried", sums_of(a=BODY))
    assert files_of(tmp_path / "retried") == {"a.wav": BODY}
    assert server.requests == ["/a.wav", "/a.wav"]
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.cut = {"/a.wav": 600_000}
    with pytest.raises(FetchError, match=r"/a\.wav cannot be downloaded after 1 attempts .*run again"):
        fetch_files(server.url, tmp_path / "failed", sums_of(a=BODY))
    assert files_of(tmp_path / "failed") == {}


def test_a_server_that_stays_broken_or_cannot_be_reached(server: Server):
    server.statuses = {"/SHA256SUMS.txt": [503] * 9}
    with pytest.raises(FetchError, match="after 5 attempts .the server answered 503"):
        fetch_text(f"{server.url}/SHA256SUMS.txt")
    assert len(server.requests) == 5
    with pytest.raises(FetchError, match="after 5 attempts .ConnectionError"):
        fetch_text("http://127.0.0.1:1/SHA256SUMS.txt")
    with pytest.raises(FetchError, match=r"cannot be downloaded \(InvalidSchema\)"):
        fetch_text("file:///etc/passwd")


def test_a_file_with_a_wrong_checksum_is_named_and_an_existing_one_kept(server: Server, tmp_path: Path):
    (tmp_path / "old.wav").write_bytes(b"old")
    server.files = {"/b/a.wav": b"tampered", "/old.wav": b"tampered", "/b/good.wav": b"good"}
    with pytest.raises(FetchError, match=r"wav has another checksum .*\(2 of 3 files could not be downloaded\)"):
        fetch_files(server.url, tmp_path, sums_of(b__a=BODY, old=BODY, b__good=b"good"))
    assert files_of(tmp_path) == {"old.wav": b"old", "b/good.wav": b"good"}


def test_not_found_is_not_retried_and_does_not_stop_the_others(server: Server, tmp_path: Path):
    server.files = {"/good.wav": b"good"}
    with pytest.raises(FetchError, match=r"wav cannot be downloaded \(the server answered 404\).*\(2 of 3 files"):
        fetch_files(server.url, tmp_path, sums_of(absent=b"", gone=b"", good=b"good"))
    assert files_of(tmp_path) == {"good.wav": b"good"}
    assert sorted(server.requests) == ["/absent.wav", "/gone.wav", "/good.wav"]


def test_a_response_that_is_too_large_is_refused_while_it_arrives(server: Server, tmp_path: Path, monkeypatch):
    for limit, size_bytes in (("MAX_LIST_BYTES", 100), ("CHUNK_BYTES", 1000), ("MAX_FILE_BYTES", len(BODY) // 2)):
        monkeypatch.setattr(download, limit, size_bytes)
    server.files = {"/a.wav": BODY, "/half.wav": BODY[::2], "/list": bytes(100), "/long": bytes(2000)}
    with pytest.raises(FetchError, match=r"/a\.wav is larger than any such file"):
        fetch_files(server.url, tmp_path, sums_of(a=BODY, half=BODY[::2]))
    assert files_of(tmp_path) == {"half.wav": BODY[::2]}
    assert fetch_text(f"{server.url}/list") == "\0" * 100
    with pytest.raises(FetchError, match="/long is larger than any such file"):
        fetch_text(f"{server.url}/long")


def test_a_file_in_place_of_a_folder_is_named(server: Server, tmp_path: Path):
    (tmp_path / "b").write_text("")
    server.files = {"/b/a.wav": b"good"}
    with pytest.raises(FetchError, match=r"cannot write .*b/a\.wav"):
        fetch_files(server.url, tmp_path, sums_of(b__a=b"good"))


def test_checksums_are_read_as_sha256sum_writes_them():
    digest = "AB" * 32
    text = f"{digest} RECORDS\n{digest}  training-a/a 1.wav\n\n{digest} *./x/ä.wav\r\n"
    assert parse_sums(text, "u") == dict.fromkeys(["RECORDS", "training-a/a 1.wav", "x/ä.wav"], digest.lower())


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "evil\x00", ".", "a/.."])
def test_names_that_lead_out_of_the_folder_are_refused(name: str):
    with pytest.raises(FetchError, match=r"http://host/SUMS names .* leads out of the folder"):
        parse_sums(f"{'0' * 64}  good.wav\n{'0' * 64}  {name}\n", "http://host/SUMS")


@pytest.mark.parametrize("text", ["", "<html>Sign in</html>", f"{'0' * 63}  short.wav"])
def test_other_text_than_checksums_is_refused(text: str):
    with pytest.raises(FetchError, match="http://host/SUMS"):
        parse_sums(text, "http://host/SUMS")


def test_the_chosen_files_are_those_of_the_parts_and_beside_them():
    names = ["RECORDS", "training.zip", "training-a/a.wav", "training-a/x.ZIP", "training-b/b.wav", "validation/a.wav"]
    sums = dict.fromkeys(names, "")
    assert list(chosen(sums, ["training-a"], "u")) == ["RECORDS", "training-a/a.wav"]
    assert list(chosen(sums, ["validation", "training-b"], "u")) == ["RECORDS", "training-b/b.wav", "validation/a.wav"]
    with pytest.raises(FetchError, match="no folder 'training-c': choose one of training-a, training-b, validation"):
        chosen(sums, ["training-c"], "u")
    sums |= dict.fromkeys(["annotations/who.csv", "annotations/other.csv"], "")
    beside = ["annotations/who.csv", "annotations/absent.csv"]
    assert list(chosen(sums, ["training-a"], "u", beside)) == ["RECORDS", "training-a/a.wav", "annotations/who.csv"]
