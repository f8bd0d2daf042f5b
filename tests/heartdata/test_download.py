"""Fetching from a local server with PhysioNet's layout: what was interrupted goes on, what is wrong is not kept."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from heartdata import download
from heartdata.download import FetchError, chosen, fetch_files, fetch_text, missing_files, parse_sums

BODY = bytes(range(256)) * 4000  # 1 MB: a transfer can break off inside


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@dataclass
class Server:
    """Serves ``files`` by path. ``asked`` is what was asked for: the path and the Range header."""

    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True  # whether it honours Range
    cut: dict[str, int] = field(default_factory=dict)  # path to the bytes sent before the line is cut, once
    answers: dict[str, list[int]] = field(default_factory=dict)  # path to the statuses answered first
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, wanted = request.path, request.headers["Range"]
        self.asked.append((path, wanted))
        content = self.files.get(path)
        status = self.answers[path].pop(0) if self.answers.get(path) else 200 if content is not None else 404
        content = content or b""
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if status == 200 and start:
            status = 206 if start < len(content) else 416
        body = content[start:] if status in (200, 206) else b""
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        if status == 206:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.end_headers()
        sent = self.cut.pop(path, len(body))
        request.wfile.write(body[:sent])
        request.close_connection = sent < len(body)


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "WAIT_S", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    served = Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{http.server_port}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield served
    http.shutdown()
    http.server_close()


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_fetches_only_what_is_missing_or_wrong(server: Server, tmp_path: Path):
    content = {f"training-b/b{n:04d}.wav": bytes([n]) * 100 for n in range(20)} | {"training-b/ä #1?.hea": b"x"}
    server.files = {f"/{name}": body for name, body in content.items() if "#" not in name}
    server.files["/training-b/%C3%A4%20%231%3F.hea"] = b"x"
    wanted = {name: sha256(body) for name, body in content.items()}
    told = []
    assert missing_files(tmp_path, wanted) == wanted
    fetch_files(server.url, tmp_path, wanted, lambda *counts: told.append(counts))
    assert files_of(tmp_path) == content
    assert told[-1] == (21, 21, 2001)
    assert missing_files(tmp_path, wanted) == {}
    (tmp_path / "training-b/b0003.wav").write_bytes(b"bad")
    (tmp_path / "training-b/b0004.wav").unlink()
    server.asked.clear()
    lacking = missing_files(tmp_path, wanted)
    assert sorted(lacking) == ["training-b/b0003.wav", "training-b/b0004.wav"]
    fetch_files(server.url, tmp_path, lacking)
    assert len(server.asked) == 2
    assert files_of(tmp_path) == content


@pytest.mark.parametrize("ranges", [True, False], ids=["range", "no range"])
def test_goes_on_after_the_line_was_cut(ranges: bool, server: Server, tmp_path: Path):
    server.files, server.ranges, server.cut = {"/a.wav": BODY}, ranges, {"/a.wav": 600_000}
    fetch_files(server.url, tmp_path, {"a.wav": sha256(BODY)})
    assert files_of(tmp_path) == {"a.wav": BODY}
    assert [path for path, _ in server.asked] == ["/a.wav", "/a.wav"]
    assert server.asked[0][1] is None
    held = int(server.asked[1][1].removeprefix("bytes=").removesuffix("-"))
    assert 0 < held <= 600_000


@pytest.mark.parametrize("ranges", [True, False], ids=["range", "no range"])
@pytest.mark.parametrize("left", [BODY[:1000], BODY, BODY + b"more", b"something else"])
def test_goes_on_from_what_an_earlier_run_left(left: bytes, ranges: bool, server: Server, tmp_path: Path):
    server.files, server.ranges = {"/a.wav": BODY}, ranges
    (tmp_path / ".a.wav.part").write_bytes(left)
    fetch_files(server.url, tmp_path, {"a.wav": sha256(BODY)})
    assert files_of(tmp_path) == {"a.wav": BODY}
    assert server.asked[0] == ("/a.wav", f"bytes={len(left)}-")
    afresh = ranges and left in (BODY + b"more", b"something else")
    assert server.asked[1:] == ([("/a.wav", None)] if afresh else [])


def test_a_run_that_was_cut_off_for_good_keeps_what_came(server: Server, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    server.files, server.cut = {"/a.wav": BODY}, {"/a.wav": 600_000}
    with pytest.raises(FetchError, match=r"/a\.wav cannot be had after 1 attempts .*run again"):
        fetch_files(server.url, tmp_path, {"a.wav": sha256(BODY)})
    (left,) = files_of(tmp_path).items()
    assert left[0] == ".a.wav.part"
    assert BODY.startswith(left[1])
    fetch_files(server.url, tmp_path, {"a.wav": sha256(BODY)})
    assert files_of(tmp_path) == {"a.wav": BODY}
    assert server.asked[1] == ("/a.wav", f"bytes={len(left[1])}-")


def test_wrong_checksum_is_told_and_not_kept(server: Server, tmp_path: Path):
    server.files = {"/b/a.wav": b"tampered", "/b/good.wav": b"good"}
    with pytest.raises(FetchError) as told:
        fetch_files(server.url, tmp_path, {"b/a.wav": sha256(BODY), "b/good.wav": sha256(b"good")})
    assert f"b/a.wav from {server.url}/b/a.wav has another checksum" in str(told.value)
    assert files_of(tmp_path) == {"b/good.wav": b"good"}
    assert len(server.asked) == 2


@pytest.mark.parametrize("left", [b"", b"something else"], ids=["nothing held", "something held"])
def test_a_server_that_answers_206_to_everything_is_given_up(left: bytes, server: Server, tmp_path: Path):
    server.files, server.answers = {"/a.wav": b"wrong" * 100}, {"/a.wav": [206] * 2000}
    if left:
        (tmp_path / ".a.wav.part").write_bytes(left)
    with pytest.raises(FetchError, match=r"a\.wav from .* has another checksum"):
        fetch_files(server.url, tmp_path, {"a.wav": sha256(BODY)})
    assert [wanted for _, wanted in server.asked] == ([f"bytes={len(left)}-", None] if left else [None])
    assert files_of(tmp_path) == {}


def test_a_206_that_begins_elsewhere_is_not_gone_on_with(server: Server, tmp_path: Path):
    server.files, server.ranges, server.answers = {"/a.wav": BODY}, False, {"/a.wav": [206]}
    (tmp_path / ".a.wav.part").write_bytes(BODY[:1000])
    fetch_files(server.url, tmp_path, {"a.wav": sha256(BODY)})
    assert files_of(tmp_path) == {"a.wav": BODY}


def test_what_is_too_large_is_refused_while_it_comes(server: Server, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(download, "MAX_LIST_BYTES", 100)
    monkeypatch.setattr(download, "MAX_FILE_BYTES", len(BODY) - 1)
    server.files = {"/a.wav": BODY, "/exact.wav": BODY[1:], "/list": bytes(100), "/long": bytes(101)}
    (tmp_path / ".a.wav.part").write_bytes(BODY[:1000])
    with pytest.raises(FetchError, match=r"/a\.wav is larger than any such file"):
        fetch_files(server.url, tmp_path, {"a.wav": sha256(BODY), "exact.wav": sha256(BODY[1:])})
    assert files_of(tmp_path) == {"exact.wav": BODY[1:]}
    assert fetch_text(f"{server.url}/list") == "\0" * 100
    with pytest.raises(FetchError, match="/long is larger than any such file"):
        fetch_text(f"{server.url}/long")


def test_wrong_checksum_leaves_what_was_there(server: Server, tmp_path: Path):
    (tmp_path / "a.wav").write_bytes(b"old")
    server.files = {"/a.wav": b"tampered"}
    with pytest.raises(FetchError, match="another checksum"):
        fetch_files(server.url, tmp_path, {"a.wav": sha256(BODY)})
    assert files_of(tmp_path) == {"a.wav": b"old"}


def test_not_found_is_not_tried_again_and_keeps_no_other_from_coming(server: Server, tmp_path: Path):
    server.files = {"/good.wav": b"good"}
    wanted = {"absent.wav": sha256(b""), "gone.wav": sha256(b""), "good.wav": sha256(b"good")}
    with pytest.raises(FetchError, match=r"wav cannot be had \(the server answered 404\).*\(2 of 3 files"):
        fetch_files(server.url, tmp_path, wanted)
    assert files_of(tmp_path) == {"good.wav": b"good"}
    assert sorted(path for path, _ in server.asked) == ["/absent.wav", "/gone.wav", "/good.wav"]


@pytest.mark.parametrize("statuses", [[503], [500, 502, 429, 504]], ids=str)
def test_passing_faults_are_tried_again(statuses: list[int], server: Server, tmp_path: Path):
    server.files, server.answers = {"/a.wav": b"good"}, {"/a.wav": list(statuses)}
    fetch_files(server.url, tmp_path, {"a.wav": sha256(b"good")})
    assert files_of(tmp_path) == {"a.wav": b"good"}
    assert len(server.asked) == len(statuses) + 1


def test_a_server_that_stays_broken_or_is_not_there(server: Server, tmp_path: Path):
    server.answers = {"/SHA256SUMS.txt": [503] * 9}
    with pytest.raises(FetchError, match="after 5 attempts .the server answered 503"):
        fetch_text(f"{server.url}/SHA256SUMS.txt")
    assert len(server.asked) == 5
    with pytest.raises(FetchError, match="after 5 attempts .ConnectionError"):
        fetch_text("http://127.0.0.1:1/SHA256SUMS.txt")
    with pytest.raises(FetchError, match=r"cannot be had \(InvalidSchema\)"):
        fetch_text("file:///etc/passwd")


def test_a_file_in_the_way_is_told(server: Server, tmp_path: Path):
    (tmp_path / "b").write_text("")
    server.files = {"/b/a.wav": b"good"}
    with pytest.raises(FetchError, match=r"cannot write .*b/a\.wav"):
        fetch_files(server.url, tmp_path, {"b/a.wav": sha256(b"good")})


def test_sums():
    digest = "AB" * 32
    text = f"{digest} RECORDS\n{digest}  training-a/a 1.wav\n\n{digest} *./x/ä.wav\r\n"
    assert parse_sums(text, "u") == dict.fromkeys(["RECORDS", "training-a/a 1.wav", "x/ä.wav"], digest.lower())


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "a\\..\\evil", "evil\x00", ".", "a/.."])
def test_sums_that_lead_out_of_the_folder_are_refused(name: str):
    with pytest.raises(FetchError, match=r"http://host/SUMS names .* leads out of the folder"):
        parse_sums(f"{'0' * 64}  good.wav\n{'0' * 64}  {name}\n", "http://host/SUMS")


@pytest.mark.parametrize("text", ["", "<html>Sign in</html>", f"{'0' * 63}  short.wav"])
def test_what_is_no_list_of_sums_is_refused(text: str):
    with pytest.raises(FetchError, match="http://host/SUMS"):
        parse_sums(text, "http://host/SUMS")


def test_chosen():
    names = ["RECORDS", "training.zip", "training-a/a.wav", "training-a/x.ZIP", "training-b/b.wav", "validation/a.wav"]
    sums = dict.fromkeys(names, "")
    assert list(chosen(sums, ["training-a"], "u")) == ["RECORDS", "training-a/a.wav"]
    assert list(chosen(sums, ["validation", "training-b"], "u")) == ["RECORDS", "training-b/b.wav", "validation/a.wav"]
    with pytest.raises(FetchError, match="no folder 'training-c': choose of training-a, training-b, validation"):
        chosen(sums, ["training-c"], "u")
    sums |= dict.fromkeys(["annotations/who.csv", "annotations/other.csv"], "")
    beside = ["annotations/who.csv", "annotations/absent.csv"]
    assert list(chosen(sums, ["training-a"], "u", beside)) == ["RECORDS", "training-a/a.wav", "annotations/who.csv"]
