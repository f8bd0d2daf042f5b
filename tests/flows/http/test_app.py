"""The API: what it accepts, what it answers, and one sentence for each request that it refuses."""

import asyncio
import base64
import io
import json
import re
import threading

import numpy as np
import pytest
import soundfile
from fastapi import Request
from fastapi.testclient import TestClient
from helpers import beats, parsed

from flows.http import worker
from flows.http.limits import LARGEST_AT_ONCE
from flows.http.recordings import recordings_of
from heartdata.audio.decode import decode
from heartdata.serving import explain as explain_module
from heartdata.serving import predictor as predictor_module
from heartdata.serving.explain import explain
from heartdata.serving.predictor import Predictor

WAV = {"content-type": "audio/wav"}


def encoded(samples: np.ndarray, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, 4000, **{"format": "WAV", **options})
    return file.getvalue()


GOOD, OTHER, SILENT = encoded(beats()), encoded(beats(60, seed=1)), encoded(np.zeros(8000))


def form(*contents: bytes) -> dict:
    return {"files": [("file", ("<b>name</b>.wav", content)) for content in contents]}


def base64_json(*contents: bytes) -> dict:
    texts = [base64.b64encode(content).decode() for content in contents]
    return {"json": {"audio": texts if len(texts) > 1 else texts[0]}}


def test_a_recording_has_the_same_answer_however_it_is_sent(client: TestClient, predictor: Predictor):
    (expected,) = predictor.predict([GOOD])
    wrapped = base64.encodebytes(GOOD).decode()
    bodies = [form(GOOD), base64_json(GOOD), {"json": {"audio": wrapped}}, {"content": GOOD, "headers": WAV}]
    for body in [*bodies, {"content": GOOD, "headers": {"content-type": "Application/Octet-Stream; a=b"}}]:
        response = client.post("/predict", **body)
        assert response.status_code == 200, response.text
        answers = response.json()
        assert answers["model"] == {"name": "heart/beat", "version": "3"}
        (answer,) = answers["predictions"]
        assert list(answer["probabilities"]) == list(predictor.config.classes)
        assert list(answer["probabilities"].values()) == pytest.approx(expected.probabilities, abs=1e-5)
        assert (answer["label"], answer["unsure"], answer["error"]) == (expected.label, expected.unsure, None)
        assert answer["most_probable"] == max(answer["probabilities"], key=answer["probabilities"].get)
        assert answer["warnings"] == list(expected.warnings)
        assert answer["heart_rate_bpm"] == expected.heart_rate_bpm


@pytest.mark.parametrize("body", [form, base64_json])
def test_a_bad_file_among_several_has_its_own_error(client: TestClient, predictor: Predictor, body):
    answers = client.post("/predict", **body(GOOD, b"no audio", OTHER, SILENT)).json()["predictions"]
    assert [answer["error"] is None for answer in answers] == [True, False, True, False]
    assert answers[1]["label"] is None
    assert answers[1]["unsure"] is None
    assert answers[1]["probabilities"] == {}
    expected = [list(result.probabilities) for result in predictor.predict([GOOD, OTHER])]
    assert [list(answers[i]["probabilities"].values()) for i in (0, 2)] == [
        pytest.approx(e, abs=1e-5) for e in expected
    ]


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        ({"content": b"", "headers": WAV}, 422, "the file is empty"),
        ({"content": b"just text", "headers": WAV}, 422, "it is text, not sound"),
        ({"content": SILENT, "headers": WAV}, 422, "silent"),
        ({"content": GOOD}, 415, "the content type is not one of audio: send"),
        ({"content": GOOD, "headers": {"content-type": "text/html"}}, 415, "the content type is not one of audio: send"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "the body is no JSON"),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "the body is no JSON"),
        ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, "the body is no JSON"),
        ({"json": {"sound": "x"}}, 400, "the JSON has no recording"),
        ({"json": ["x"]}, 400, "the JSON has no recording"),
        ({"json": {"audio": [1]}}, 400, "the JSON has no recording"),
        ({"json": {"audio": []}}, 400, "there is no recording in the request: send"),
        ({"json": {"audio": "<b>"}}, 400, "a recording is not in base64"),
        ({"json": {"audio": "\N{BROKEN HEART}"}}, 400, "a recording is not in base64"),
        ({"files": [("sound", GOOD)]}, 400, "there is no recording in the request: send"),
        ({"data": {"file": "<b>"}, "files": [("x", b"")]}, 400, 'the form field "file" is no file'),
        ({"files": [("file", ("<b>" * 10_000, GOOD))]}, 400, "the form cannot be read: .* short names"),
        ({"content": GOOD, "headers": {"content-type": "multipart/form-data"}}, 400, "the form cannot be read"),
        ({"content": GOOD, "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "the form cannot be read"),
        (form(*[b"x"] * 33), 413, "more than 32 recordings"),
        (base64_json(*[b"x"] * 33), 413, "more than 32 recordings"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_bad_request_is_refused_in_one_sentence(client: TestClient, request_: dict, status: int, sentence: str, path):
    response = client.post(path, **request_)
    assert response.status_code == status
    (error,) = response.json().values()
    assert re.search(sentence, error)
    assert "<b>" not in error
    assert "Traceback" not in error
    assert "\n" not in error


def test_one_recording_is_explained_at_a_time(client: TestClient):
    response = client.post("/explain", **form(GOOD, OTHER))
    assert response.status_code == 400
    assert "more than one recording" in response.json()["error"]


def test_an_explanation_is_of_the_recordings_size(client: TestClient, predictor: Predictor):
    body = client.post("/explain", **form(GOOD)).json()
    picture, label = body["spectrogram"], body["prediction"]["label"]
    assert body["explained"] == label
    assert body["prediction"] == client.post("/predict", **form(GOOD)).json()["predictions"][0]
    assert body["duration_s"] == 5
    expected = explain(predictor, GOOD)
    assert (picture["columns"], picture["bands"]) == expected.spectrogram.shape
    levels, relevance = (np.frombuffer(base64.b64decode(picture[layer]), np.uint8) for layer in ("levels", "relevance"))
    assert len(levels) == len(relevance) == picture["columns"] * picture["bands"]
    assert (levels.min(), levels.max()) == (0, 255)
    assert relevance.tolist() == (255 * expected.relevance).astype(np.uint8).ravel().tolist()
    wave = body["waveform"]
    assert len(wave["low"]) == len(wave["high"]) == 1000
    assert max(wave["high"]) == pytest.approx(beats().max(), abs=1e-3)
    assert expected.beats is not None
    assert body["beats"]["heart_rate_bpm"] == expected.beats.heart_rate_bpm
    assert body["beats"]["s1_s"] == expected.beats.s1_s.tolist()
    other = client.post("/explain?label=normal", **form(GOOD)).json()
    assert other["explained"] == "normal"
    unknown = client.post("/explain?label=<b>", **form(GOOD))
    assert unknown.status_code == 422
    assert "name one of murmur, normal, " in unknown.json()["error"]
    assert "<b>" not in unknown.json()["error"]


def test_explanations_do_not_disturb_predictions(client: TestClient, predictor: Predictor):
    expected = pytest.approx(predictor.predict([GOOD])[0].probabilities, abs=1e-5)
    results = []

    def ask(path: str) -> None:
        body = client.post(path, **form(GOOD)).json()
        results.append((body.get("prediction") or body["predictions"][0])["probabilities"])

    threads = [threading.Thread(target=ask, args=[path]) for path in ["/explain", "/predict"] * 6]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [list(probabilities.values()) for probabilities in results] == [expected] * 12


@pytest.mark.parametrize(
    ("headers", "loopback_only", "status"),
    [
        ({"host": "localhost"}, True, 200),
        ({"host": "127.0.0.1:8000"}, True, 200),
        ({"host": "[::1]:8000"}, True, 200),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, True, 200),
        ({"host": "evil.example"}, True, 403),
        ({"host": "localhost.evil.example:8000"}, True, 403),
        ({"host": "[:"}, True, 403),
        ({"host": ""}, True, 403),
        ({"host": "localhost:8000", "origin": "http://evil.example"}, True, 403),
        ({"host": "localhost:8000", "origin": "http://localhost:9000"}, True, 403),
        ({"host": "localhost:8000", "origin": "null"}, True, 403),
        ({"host": "ward7.example:8000"}, False, 200),
        ({"host": "ward7.example:8000", "origin": "https://ward7.example:8000"}, False, 200),
        ({"host": "ward7.example:8000", "origin": "https://evil.example"}, False, 403),
    ],
)
def test_only_pages_of_the_server_itself_may_use_it(make_app, headers: dict, loopback_only: bool, status: int):
    app = make_app(loopback_only)
    for method, path in (("GET", "/"), ("POST", "/predict")):
        opened = TestClient(app, headers=headers)  # not entered: no warm-up
        response = opened.request(method, path, **({"content": GOOD} if method == "POST" else {}))
        assert response.status_code == (status if status == 403 or method == "GET" else 415)
        assert "access-control-allow-origin" not in response.headers
        assert "evil" not in response.text


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_a_recording_is_decoded_once(client: TestClient, monkeypatch, path: str):
    decoded = []
    for module in (predictor_module, explain_module, worker):
        monkeypatch.setattr(module, "decode", lambda content: decoded.append(1) or decode(content))
    assert client.post(path, **form(GOOD)).status_code == 200
    assert decoded == [1]


def test_large_long_and_slow_requests_are_refused(make_app):
    opened = TestClient(make_app(max_bytes=100_000, max_seconds=4, upload_s=0.3), "http://localhost")
    assert opened.post("/predict", content=GOOD, headers=WAV).json() == {"error": "5 s long: send at most 4 s"}
    assert opened.post("/explain", content=GOOD, headers=WAV).status_code == 422
    assert opened.post("/predict", content=encoded(beats(duration_s=4)), headers=WAV).status_code == 200
    for body in (bytes(100_001), iter([bytes(60_000)] * 3)):
        response = opened.post("/predict", content=body, headers=WAV)
        assert response.status_code == 413
        assert response.json() == {"error": "more than 0.1 MB: send a shorter recording, or fewer at once"}


async def sending(app, messages, headers=()) -> tuple[int, dict, dict]:
    """The status, headers and JSON that an ASGI application answers to a POST whose body arrives as ``messages``."""
    answered: list = []

    async def receive() -> dict:
        message = next(messages, None)
        if message is None:
            await asyncio.sleep(60)
        return message

    async def send(message: dict) -> None:
        answered.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": [(b"host", b"localhost"), *headers]}  # fmt: skip
    await app(scope, receive, send)
    start, body = answered
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, json.loads(body["body"])


def sent(app, messages, headers=()) -> tuple[int, dict, dict]:
    return asyncio.run(sending(app, messages, headers))


def chunk(content: bytes, more: bool = True) -> dict:
    return {"type": "http.request", "body": content, "more_body": more}


def test_an_upload_that_stalls_is_refused(make_app):
    app = make_app(upload_s=0.2)
    status, headers, body = sent(app, iter([chunk(GOOD[:100])]))
    assert (status, headers["connection"]) == (408, "close")
    assert body["error"].startswith("the upload took longer than 0.2 s")
    assert sent(app, iter([chunk(GOOD[:100]), {"type": "http.disconnect"}]))[0] == 400


def test_a_client_that_asks_first_is_refused_before_it_sends(make_app):
    asks = [(b"expect", b"100-continue"), (b"content-length", b"2000000000")]
    assert sent(make_app(), iter([]), asks)[0] == 413


def test_requests_beyond_the_limit_are_told_to_try_again(make_app):
    app, whole, kind = (
        make_app(max_requests=1, upload_s=0.5),
        [chunk(GOOD, more=False)],
        [(b"content-type", b"audio/wav")],
    )

    async def ask() -> list:
        stalled = asyncio.create_task(sending(app, iter([chunk(GOOD)])))
        await asyncio.sleep(0)
        refused = await sending(app, iter(whole), kind)
        return [await stalled, refused, await sending(app, iter(whole), kind)]

    stalled, refused, later = asyncio.run(ask())
    assert (refused[0], refused[1]["retry-after"]) == (503, "1")
    assert refused[2]["error"] == "the server is busy with other requests: try again in a second"
    assert (stalled[0], later[0]) == (408, 200)


def test_bodies_that_are_too_much_together_are_told_to_try_again(make_app):
    size, kind = len(GOOD), [(b"content-type", b"audio/wav")]
    app = make_app(max_bytes=size, upload_s=0.5)

    async def ask() -> list:
        stalled = [asyncio.create_task(sending(app, iter([chunk(GOOD)]))) for _ in range(LARGEST_AT_ONCE)]
        await asyncio.sleep(0.1)
        pieces = [chunk(GOOD[: size // 2]), chunk(GOOD[size // 2 :], more=False)]
        refused = await sending(app, iter(pieces), kind)
        return [*[await each for each in stalled], refused, await sending(app, iter(pieces), kind)]

    *stalled, refused, later = asyncio.run(ask())
    assert [status for status, _, _ in stalled] == [408] * LARGEST_AT_ONCE
    assert (refused[0], refused[1]["retry-after"]) == (503, "1")
    assert later[0] == 200


def test_a_large_form_leaves_others_their_turn():
    boundary, content = b"x", np.random.default_rng(0).bytes(8 << 20)
    head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
    messages = [chunk(head + content + b"\r\n--x--\r\n", more=False)]
    scope = {"type": "http", "headers": [(b"content-type", b"multipart/form-data; boundary=" + boundary)]}

    async def receive() -> dict:
        return messages.pop()

    async def others(turns: list) -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def parse() -> tuple[list[bytes], int]:
        turns: list = []
        asking = asyncio.create_task(others(turns))
        contents = await recordings_of(Request(scope, receive))
        asking.cancel()
        return contents, len(turns)

    contents, turns = asyncio.run(parse())
    assert contents == [content]
    assert turns > 20


def test_a_request_that_the_server_stops_at_is_told_so(make_app, monkeypatch):
    app, stopped = make_app(), threading.Event()
    monkeypatch.setattr(Predictor, "predict", lambda *_: stopped.wait(60))

    async def stop() -> tuple:
        asked = asyncio.create_task(sending(app, iter([chunk(GOOD, more=False)]), [(b"content-type", b"audio/wav")]))
        await asyncio.sleep(0.2)
        asked.cancel()
        try:
            return await asked
        finally:
            stopped.set()

    status, headers, body = asyncio.run(stop())
    assert (status, "retry-after" in headers) == (503, True)
    assert body["error"].startswith("the server is stopping: send it again")


def test_health_names_the_model(client: TestClient):
    ready = client.get("/health").json()
    assert ready["status"] == "ready"
    assert ready["model"] == {"name": "heart/beat", "version": "3"}


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/absent<b>", 404), ("GET", "/predict", 405)])
def test_other_pages_are_refused_in_one_sentence(client: TestClient, method: str, path: str, status: int):
    response = client.request(method, path)
    assert response.status_code == status
    assert "see /docs" in response.json()["error"]
    assert "<b>" not in response.text


@pytest.mark.parametrize(("fault", "status"), [(RuntimeError("secret"), 500), (MemoryError(), 503)])
def test_a_fault_of_the_server_is_not_shown(client: TestClient, monkeypatch, fault: Exception, status: int):
    def fail(*_: object) -> None:
        raise fault

    monkeypatch.setattr(Predictor, "predict", fail)
    response = client.post("/predict", **form(GOOD))
    assert response.status_code == status
    assert list(response.json()) == ["error"]
    assert "secret" not in response.text


def test_pages_load_nothing_from_elsewhere(client: TestClient):
    for path in ("/", "/docs"):
        response = client.get(path)
        assert response.status_code == 200
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "'sha256-" in response.headers["content-security-policy"]
        assert not re.search(r"(src|href|url)\W{1,2}(https?:)?//", response.text)
    page = parsed(client.get("/docs").text)
    text = " ".join(page.text)
    for expected in (
        "/predict",
        "/explain",
        "/health",
        "heart_rate_bpm",
        "most_probable",
        "multipart/form-data",
        "413",
    ):
        assert expected in text
    assert {"/predict", "/explain", "/health"} == set(client.get("/openapi.json").json()["paths"])
