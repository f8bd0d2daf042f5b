"""Predictions and explanations computed side by side, in a pool of threads."""

import asyncio
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np
import soundfile

from heartdata.audio import synthesis
from heartdata.audio.decode import decode
from heartdata.errors import BadAudio
from heartdata.processes import cpu_count
from heartdata.serving.explain import Explanation, explain
from heartdata.serving.predictor import Prediction, Predictor, Recording


class Worker:
    """A predictor for the requests of a server. Recordings longer than ``max_seconds`` are refused."""

    def __init__(self, predictor: Predictor, max_seconds: float) -> None:
        self._predictor, self._max_seconds = predictor, max_seconds
        self._pool = ThreadPoolExecutor(cpu_count(), "predict")

    async def warm_up(self) -> None:
        """Call all that is slow at the first time, from decoding to Grad-CAM."""
        rng = np.random.default_rng(0)
        sound, file = synthesis.synthesize(synthesis.Heart.draw("normal", rng), 10, 0, rng), io.BytesIO()
        soundfile.write(file, sound.samples, synthesis.RATE_HZ, format="WAV")
        await self.predict([file.getvalue()])
        with suppress(BadAudio):  # of a model that accepts no such recording
            await self.explain(file.getvalue(), None)

    async def predict(self, contents: Sequence[bytes]) -> list[Prediction | BadAudio]:
        """A prediction for each recording, in order, or why there is none."""
        return await asyncio.gather(*(self._run(self._predict, content) for content in contents))

    async def explain(self, content: bytes, label: str | None) -> Explanation:
        """As `heartdata.serving.explain.explain`. Raises `BadAudio`."""
        return await self._run(self._explain, content, label)

    def close(self) -> None:
        """Drop what waits."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def _predict(self, content: bytes) -> Prediction | BadAudio:
        try:
            recording = self._prepare(content)
        except BadAudio as error:
            return error
        return self._predictor.predict([recording])[0]

    def _explain(self, content: bytes, label: str | None) -> Explanation:
        return explain(self._predictor, self._prepare(content), label)

    def _prepare(self, content: bytes) -> Recording:
        audio = decode(content)
        duration_s = len(audio.samples) / audio.rate_hz
        if duration_s > self._max_seconds:
            raise BadAudio(f"{duration_s:.0f} s long: send at most {self._max_seconds:g} s")
        return self._predictor.prepare(audio)
