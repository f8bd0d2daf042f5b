"""The recordings in a request: of a form, of JSON in base64, or the body itself."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

MAX_RECORDINGS = 32
PIECE_BYTES = 1 << 18  # of a form that is parsed without a pause
RAW = (
    "audio/",
    "video/",
    "application/octet-stream",
    "application/ogg",
)  # video: what some programs call .webm or .mp4
NO_AUDIO = (
    'send a recording as the form field "file", as a body of type audio/wav or the like, or as JSON {"audio": base64}'
)
FORM = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
}
JSON = {
    "type": "object",
    "required": ["audio"],
    "properties": {
        "audio": {
            "description": "the bytes of a file in base64, or a list of such",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        }
    },
    "example": {"audio": "UklGRiQAAABXQVZFZm10IBAAAAAB..."},
}
OPENAPI = {
    "requestBody": {
        "required": True,
        "description": "One recording or several: WAV, FLAC, OGG, MP3, AIFF and whatever else libsndfile reads; with "
        "ffmpeg on the server also M4A, WebM and other formats of phones.",
        "content": {
            "multipart/form-data": {"schema": FORM},
            "application/json": {"schema": JSON},
            "audio/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


async def recordings_of(request: Request) -> list[bytes]:
    """The bytes of each recording, in order. Raises `HTTPException` with one sentence."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        contents = await _of_form(request)
    elif kind == "application/json":
        contents = await asyncio.to_thread(_of_json, await request.body())
    elif kind.startswith(RAW):
        contents = [await request.body()]
    else:
        raise HTTPException(415, f"the content type is not one of audio: {NO_AUDIO}")
    if not contents:
        raise HTTPException(400, f"there is no recording in the request: {NO_AUDIO}")
    if len(contents) > MAX_RECORDINGS:
        raise HTTPException(413, f"more than {MAX_RECORDINGS} recordings: send fewer at once")
    return contents


async def _of_form(request: Request) -> list[bytes]:
    body = await request.body()

    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), PIECE_BYTES):
            yield body[start : start + PIECE_BYTES]
            await asyncio.sleep(0)  # others are answered meanwhile

    try:
        form = await MultiPartParser(request.headers, pieces()).parse()
    except MultiPartException as error:
        sentence = (
            f"the form cannot be read: send at most {MAX_RECORDINGS} files as multipart/form-data, with short names"
        )
        raise HTTPException(400, sentence) from error
    files = form.getlist("file")
    if not all(isinstance(file, UploadFile) for file in files):
        raise HTTPException(400, f'the form field "file" is no file: {NO_AUDIO}')
    contents = [await file.read() for file in files if isinstance(file, UploadFile)]
    await form.close()
    return contents


def _of_json(body: bytes) -> list[bytes]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, 'the body is no JSON: send {"audio": base64}') from error
    audio = document.get("audio") if isinstance(document, dict) else None
    texts: list[Any] = audio if isinstance(audio, list) else [audio]
    if not all(isinstance(text, str) for text in texts):
        raise HTTPException(400, 'the JSON has no recording: send {"audio": base64}, or a list of such texts')
    try:
        return [base64.b64decode("".join(text.split()), validate=True) for text in texts]
    except ValueError as error:
        raise HTTPException(400, "a recording is not in base64: send the file's bytes in base64") from error
