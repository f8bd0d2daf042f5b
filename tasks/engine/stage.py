"""What the tasks of all stages share: the cache key, the check that cached files are intact, the retries."""

import errno
import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from types import UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from prefect import Task, task
from prefect.cache_policies import NO_CACHE, CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.results import get_result_store
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import exponential_backoff
from pydantic import BaseModel

from heartdata.audio.decode import LIBRARIES
from heartdata.settings import Settings, sha256_json
from heartdata.storage.shards import Shard
from heartdata.storage.store import Artifact, Store
from tasks.engine import progress
from tasks.engine.records import UntrustedRecord, refuse_untrusted
from tasks.engine.versions import STAGES
from tasks.results import NOT_DIGESTED

P = ParamSpec("P")
R = TypeVar("R")
ABSENT, UNTRUSTED = object(), object()  # in place of a cached result
LONG_S = 24 * 3600.0  # time limit of stages that run the network on every recording
PERMANENT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}  # until somebody fixes it
_failed: ContextVar[Exception | None] = ContextVar("failed", default=None)  # what computing the last key raised


def fingerprint(value: Any) -> Any:
    """An input as cache keys include it: digests of contents and settings, never paths or times."""
    if isinstance(value, Artifact):
        return value.digest
    if isinstance(value, (Settings, Shard)):
        return value.digest()
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        return {n: fingerprint(getattr(value, n)) for n, f in fields if f.json_schema_extra != NOT_DIGESTED}
    if isinstance(value, (list, tuple)):
        return [fingerprint(item) for item in value]
    if isinstance(value, Mapping):
        return {name: fingerprint(item) for name, item in value.items()}
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a stage's input of type {type(value).__name__} has no fingerprint")


def artifacts_in(result: Any) -> Iterator[Artifact]:
    """Every artifact that a stage's result names."""
    if isinstance(result, Artifact):
        yield result
        return
    if isinstance(result, BaseModel):
        result = dict(result)
    if isinstance(result, Mapping):
        result = list(result.values())
    if isinstance(result, (list, tuple)):
        for item in result:
            yield from artifacts_in(item)


def files_intact(result: Any, store: Store) -> bool:
    """Whether all files of a result are in the store with the content that their digests name."""
    return all(store.intact(artifact) for artifact in artifacts_in(result))


@dataclass
class StageKey(CachePolicy):
    """Cache key = stage, its version (and those of the decoders, if it uses them), and the fingerprints of its inputs but
    the store.

    A cached result proves only that its small JSON exists. When it is not of type ``returns``, or ``valid`` finds a file
    that it names missing or damaged, or its record must not be decoded (see `tasks.engine.records`), the key gets the next
    rebuild number, so that the stage runs again. A record that cannot be decoded counts as absent and is overwritten.

    When computing a key raises, Prefect runs the task without one and does not keep its result. So the exception is
    kept, and the stage's body raises it (see `raise_failed_key`): an I/O error is retried.
    """

    stage: str = ""
    valid: Callable[[Any, Store], bool] = files_intact
    returns: Any = object

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str | None:
        _failed.set(None)
        try:
            return self._key(inputs)
        except Exception as error:
            _failed.set(error)
            return None

    def _key(self, inputs: dict[str, Any]) -> str:
        (store,) = (value for value in inputs.values() if isinstance(value, Store))
        key = self.first_key(inputs)
        for rebuild in itertools.count():
            candidate = key if rebuild == 0 else f"{key}-rebuild{rebuild}"
            result = _recorded(candidate)
            if result is ABSENT:
                return candidate
            if result is not UNTRUSTED and has_type(result, self.returns) and self.valid(result, store):
                _note_use(candidate)
                progress.unchanged(self.stage)
                return candidate
        raise AssertionError("unreachable")

    def first_key(self, inputs: dict[str, Any]) -> str:
        """The key before any rebuild."""
        code = STAGES[self.stage]
        seen = {name: fingerprint(value) for name, value in inputs.items() if not isinstance(value, Store)}
        digest = sha256_json([seen, LIBRARIES] if code.decodes else seen)
        return f"{self.stage}-v{code.version}-{digest}".replace(" ", "-")


def _recorded(key: str) -> Any:
    """The cached result; ABSENT when there is no record that can be decoded, UNTRUSTED when it must not be. Raises OSError."""
    results = get_result_store()
    storage: Any = results.result_storage
    try:
        refuse_untrusted(storage.read_path(key, _sync=True))
        return results.read(key).result
    except FileNotFoundError:
        return ABSENT
    except UntrustedRecord as error:
        progress.add_note(
            f"the cached result {key} is not used, and its stage runs again: {error}. Remove the file from the folder of "
            "results; if no other version of heartbeat wrote it, find out who did"
        )
        return UNTRUSTED
    except OSError:
        raise
    except Exception:  # Prefect's file system raises ValueError for no file, its decoders several things
        return ABSENT


def _note_use(key: str) -> None:
    """Set the time of a cached result, by which `heartbeat prune` knows how long it has not been used."""
    with suppress(OSError):  # results may be kept elsewhere than in a folder
        os.utime(PREFECT_LOCAL_STORAGE_PATH.value() / key)


def has_type(result: Any, declared: Any) -> bool:
    """Whether a decoded result has the type that its stage declares: a renamed class is decoded as a plain dict.

    Lists and tuples count as the same: JSON does not distinguish them.
    """
    allowed = [kind for kind in get_args(declared) if kind is not ...]
    if get_origin(declared) in (list, tuple):
        return isinstance(result, (list, tuple)) and all(any(has_type(r, kind) for kind in allowed) for r in result)
    if get_origin(declared) in (Union, UnionType):
        return any(has_type(result, kind) for kind in allowed)
    return isinstance(result, declared)


def raise_failed_key() -> None:
    """Raise what computing the running stage's cache key raised, if anything."""
    error = _failed.get()
    _failed.set(None)
    if error is not None:
        raise error


def is_transient(task: Task, task_run: TaskRun, state: State) -> bool:
    """Retry I/O errors that may pass by themselves; never a full disk, or wrong data or settings."""
    try:
        state.result()
    except TaskRunTimeoutError:  # an OSError, too, but a retry would take as long
        return False
    except OSError as error:
        return error.errno not in PERMANENT
    except Exception:
        return False
    return False


def uncached_task(name: str, retries: int = 2, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """A Prefect task that runs every time and is retried on I/O errors; ``options`` are further ones of `prefect.task`."""
    return task(name=name, cache_policy=NO_CACHE, retries=retries, retry_condition_fn=is_transient, **options)


def stage(
    name: str, timeout_s: float | None = 3600, valid: Callable[[Any, Store], bool] | None = None
) -> Callable[[Callable[..., Any]], Task]:
    """A Prefect task that is cached by content, retried on I/O errors and limited in time; its version is in STAGES.

    ``timeout_s`` must be None for a task that runs in a thread, which Prefect cannot interrupt.
    """

    def decorated(function: Callable[..., Any]) -> Task:
        @wraps(function)
        def body(*args: Any, **kwargs: Any) -> Any:
            raise_failed_key()
            return function(*args, **kwargs)

        returns = get_type_hints(function)["return"]
        return task(
            name=name,
            cache_policy=StageKey(stage=name, valid=valid or files_intact, returns=returns),
            persist_result=True,
            result_serializer="json",
            retries=3,
            retry_delay_seconds=exponential_backoff(2),
            retry_jitter_factor=0.5,
            retry_condition_fn=is_transient,
            timeout_seconds=timeout_s,
        )(body)

    return decorated
