"""The web application: `/predict`, `/explain`, `/health`, a page to try a recording, and the API's description."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from flows.http.answers import EXAMPLE, Answers, Explained, Model, Problem, Ready, answer, explained
from flows.http.limits import Gate, Limits, refusal
from flows.http.pages import page
from flows.http.recordings import OPENAPI, recordings_of
from flows.http.worker import Worker
from heartdata.errors import BadAudio
from heartdata.serving.predictor import Predictor

ABOUT = """Classifies heart sound recordings with a registered model. Research use only; not a medical device.

A request that is refused has a JSON object with one field, error: a sentence that says what to do."""
EXPLAINED = "the class to explain, the label by default"
REFUSALS = {
    400: "The request cannot be read.",
    403: "The request comes from a page of another site, or is sent to another name than localhost.",
    408: "The upload takes too long.",
    413: "The request is too large.",
    415: "The content type is not one of audio.",
    422: "The one recording cannot be used; of several, each has its own error.",
    503: "The server is busy: try again after the seconds in Retry-After.",
}


def create_app(predictor: Predictor, uri: str, limits: Limits, loopback_only: bool = True) -> FastAPI:
    """The application for one model (``uri``: models:/NAME/VERSION), warmed up before the first request is answered."""
    name, _, version = uri.removeprefix("models:/").rpartition("/")
    model, config = Model(name=name, version=version), predictor.config
    worker = Worker(predictor, limits.max_seconds)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await worker.warm_up()
        yield
        worker.close()

    app = FastAPI(
        title="heartbeat", description=ABOUT, version=version, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(Gate, limits=limits, loopback_only=loopback_only)
    for kind, response in _ERRORS.items():
        app.add_exception_handler(kind, response)
    refusals: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": text} for status, text in REFUSALS.items()
    }

    @app.get("/health")
    async def health() -> Ready:
        """Answers once the model is loaded and warmed up."""
        return Ready(status="ready", model=model, classes=list(config.classes), max_seconds=limits.max_seconds)

    @app.post("/predict", openapi_extra=OPENAPI, responses=refusals)
    async def predict(request: Request) -> Answers:
        """Classify recordings. Of several, each has its own answer or error."""
        results = await worker.predict(await recordings_of(request))
        if len(results) == 1 and isinstance(results[0], BadAudio):
            raise results[0]
        return Answers(model=model, predictions=[answer(result, config.classes) for result in results])

    @app.post("/explain", openapi_extra=OPENAPI, responses=refusals)
    async def why(request: Request, label: Annotated[str | None, Query(description=EXPLAINED)] = None) -> Explained:
        """Classify one recording, and show where in time and frequency it speaks for a class."""
        if label not in (None, *config.classes):
            raise HTTPException(422, f"label is no class of this model: name one of {', '.join(config.classes)}")
        contents = await recordings_of(request)
        if len(contents) > 1:
            raise HTTPException(400, "more than one recording: send one to explain")
        return await asyncio.to_thread(explained, await worker.explain(contents[0], label), model, config)

    described = app.openapi()
    pages = {
        "/": page("page.html"),
        "/docs": page(
            "api.html",
            about=ABOUT,
            example=EXAMPLE,
            paths=described["paths"],
            schemas=described["components"]["schemas"],
        ),
    }

    @app.get("/", include_in_schema=False)
    @app.get("/docs", include_in_schema=False)
    async def html(request: Request) -> HTMLResponse:
        return pages[request.url.path]

    return app


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
