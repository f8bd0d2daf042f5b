"""Worker processes of this machine. They import little, so that they start in a fraction of a second."""

import queue
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context, parent_process
from os import _exit
from threading import Thread
from typing import Any, ClassVar

from threadpoolctl import threadpool_limits

PRELOADED = [
    "heartdata.dataset.spectrogram_shards",
    "heartdata.audio.measurements",
    "tasks.engine.workers",
    "librosa.filters",
]


class Workers:
    """As many processes as concurrent calls. Each is a pool of its own, as a dead process breaks its whole pool.

    A context manager: inside it is ``Workers.current``; on exit its processes end.
    """

    current: ClassVar["Workers | None"] = None

    def __init__(self) -> None:
        self._idle: queue.LifoQueue[ProcessPoolExecutor] = queue.LifoQueue()

    def __enter__(self) -> "Workers":
        Workers.current = self
        return self

    def __exit__(self, *error: object) -> None:
        Workers.current = None
        while not self._idle.empty():
            self._idle.get().shutdown(wait=False)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function`` in an idle process, or in a new one; may be called from several threads.

        Raises what it raises, and ChildProcessError (an OSError, so that the task is retried) when its process dies.
        """
        try:
            process = self._idle.get_nowait()
        except queue.Empty:
            process = _new_process()
        try:
            result = process.submit(function, *args).result()
        except BrokenProcessPool as error:
            process.shutdown(wait=False)
            raise ChildProcessError(
                "a worker process died, probably for want of memory: set fewer engine.workers, or engine.name=threads"
            ) from error
        except BaseException:
            self._idle.put(process)
            raise
        self._idle.put(process)
        return result


@lru_cache(maxsize=1)
def one_blas_thread() -> None:
    """Let numpy multiply matrices in one thread, for the rest of this process: shards run in parallel already, and with
    more threads the last bits of a sum depend on their number.
    """
    threadpool_limits(1, "blas")


def _new_process() -> ProcessPoolExecutor:
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return ProcessPoolExecutor(1, context, initializer=_begin)


def _begin() -> None:
    """Use one BLAS thread, and end with the parent process, even when that is killed."""
    one_blas_thread()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        _exit(1)
