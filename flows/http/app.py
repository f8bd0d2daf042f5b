"""The web application: `/predict`, `/explain`, `/health`, a page to try a recording, and the API's description."""

import asyncio
import base64
import copy
import hashlib
import io
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib.resources import files
from threading import Lock
from typing import Any

import jinja2
import numpy as np
import soundfile
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from flows.http.answers import Answers, Explained, Model, Problem, Ready, answer, explained
from flows.http.limits import Gate, Limits, refusal
from flows.http.recordings import OPENAPI, recordings_of
from heartdata.audio import synthesis
from heartdata.audio.decode import decode
from heartdata.errors import BadAudio
from heartdata.serving.explain import explain
from heartdata.serving.predictor import Prediction, Predictor

ABOUT = """Classifies heart sound recordings with a registered model. Research use only; not a medical device.

A refused request is one sentence, `{"error": "..."}`, that says what to do."""
REFUSALS = {
    400: "The request cannot be read.",
    403: "The request comes from a page of another site, or is sent to another name than localhost.",
    408: "The upload takes too long.",
    413: "The request is too large.",
    415: "The content type is not one of audio.",
    422: "The recording, or each of several, cannot be used.",
    503: "The server is busy: try again after the seconds in Retry-After.",
}


def create_app(predictor: Predictor, uri: str, limits: Limits, loopback_only: bool = True) -> FastAPI:
    """The application for one model (``uri``: models:/NAME/VERSION), warmed up before the first request is answered."""
    classes = predictor.config.classes
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    model = Model(name=name, version=version)
    explainer = replace(predictor, net=copy.deepcopy(predictor.net))  # Grad-CAM hooks into its network
    explaining = Lock()
    pool = ThreadPoolExecutor(os.cpu_count(), "predict")

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await in_pool(_warm_up, predictor, explainer)
        yield
        pool.shutdown(wait=False, cancel_futures=True)

    async def in_pool(work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work, *arguments)

    def check_duration(content: bytes) -> None:
        audio = decode(content)
        duration_s = len(audio.samples) / audio.rate_hz
        if duration_s > limits.max_seconds:
            raise BadAudio(f"{duration_s:.0f} s long: send at most {limits.max_seconds:g} s")

    def predict_one(content: bytes) -> Prediction | BadAudio:
        try:
            check_duration(content)
        except BadAudio as error:
            return error
        return predictor.predict([content])[0]

    def explain_one(content: bytes, label: str | None) -> Explained:
        check_duration(content)
        with explaining:
            explanation = explain(explainer, content, label)
        return explained(explanation, model, classes, predictor.config.spectrogram)

    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": text} for status, text in REFUSALS.items()
    }
    app = FastAPI(
        title="heartbeat", description=ABOUT, version=version,
        lifespan=lifespan, docs_url=None, redoc_url=None,
    )  # fmt: skip
    app.add_middleware(Gate, limits=limits, loopback_only=loopback_only)

    @app.get("/health")
    async def health() -> Ready:
        """Answers once the model is loaded and warmed up."""
        return Ready(status="ready", model=model, classes=list(classes), max_seconds=limits.max_seconds)

    @app.post("/predict", openapi_extra=OPENAPI, responses=refusals)
    async def predict(request: Request) -> Answers:
        """Classify recordings. Of several, each has its own answer or error."""
        contents = await recordings_of(request)
        results = await asyncio.gather(*(in_pool(predict_one, content) for content in contents))
        if all(isinstance(result, BadAudio) for result in results):
            raise HTTPException(422, str(results[0]))
        return Answers(model=model, predictions=[answer(result, classes) for result in results])

    @app.post("/explain", openapi_extra=OPENAPI, responses=refusals)
    async def why(request: Request, label: str | None = None) -> Explained:
        """Classify one recording, and show where in time and frequency it speaks for a class.

        `label`: that class, the predicted one by default.
        """
        if label not in (None, *classes):
            raise HTTPException(422, f"label is no class of this model: name one of {', '.join(classes)}")
        contents = await recordings_of(request)
        if len(contents) > 1:
            raise HTTPException(400, "more than one recording: send one to explain")
        return await in_pool(explain_one, contents[0], label)

    page = _page("page.html")
    api = _page("api.html", paths=app.openapi()["paths"], schemas=app.openapi()["components"]["schemas"], about=ABOUT)

    @app.get("/", include_in_schema=False)
    async def try_a_recording() -> HTMLResponse:
        return page

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return api

    for kind, response in _ERRORS.items():
        app.add_exception_handler(kind, response)
    return app


def _warm_up(*predictors: Predictor) -> None:
    """Call all that is slow at the first time, from decoding to Grad-CAM."""
    rng = np.random.default_rng(0)
    sound, file = synthesis.synthesize(synthesis.Heart.draw("normal", rng), 10, 0, rng), io.BytesIO()
    soundfile.write(file, sound.samples, synthesis.RATE_HZ, format="WAV")
    for predictor in predictors:
        with suppress(BadAudio):  # of a model that accepts no such recording
            explain(predictor, file.getvalue())


def _page(name: str, **values: Any) -> HTMLResponse:
    """A page of this folder. It may run its own script and use its own style, and nothing else."""
    template = files(__package__).joinpath(name).read_text(encoding="utf-8")
    html = jinja2.Environment(autoescape=True, trim_blocks=True).from_string(template).render(values)
    policy = "default-src 'none'; img-src data:; media-src blob:; connect-src 'self'; "
    policy += "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    for tag in ("script", "style"):
        for content in re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
            policy += f"; {tag}-src 'sha256-{digest}'"
    return HTMLResponse(html, headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"})


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    known = {404: "there is no such page: see /docs", 405: "this page takes another method: see /docs"}
    return refusal(error.status_code, known.get(error.status_code, error.detail))


async def _bad_audio(request: Request, error: Exception) -> JSONResponse:
    return refusal(422, str(error))


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    return refusal(422, "the request does not fit the API: see /docs")


async def _no_memory(request: Request, error: Exception) -> JSONResponse:
    return refusal(503, "too little memory for this request: send a shorter recording", {"Retry-After": "1"})


async def _fault(request: Request, error: Exception) -> JSONResponse:
    return refusal(500, "the server has failed at this request: its log says why")


_ERRORS: dict[type[Exception], Callable[[Request, Exception], Awaitable[JSONResponse]]] = {
    StarletteHTTPException: _http_error,
    BadAudio: _bad_audio,
    RequestValidationError: _invalid,
    MemoryError: _no_memory,
    Exception: _fault,
}
