"""What every stage's task has in common: the cache key, the check that cached files are still there, the retries."""

import errno
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prefect import Task, task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.results import get_result_store
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import exponential_backoff
from pydantic import BaseModel

from heartdata.settings import Settings
from heartdata.shards import Shard
from heartdata.store import Artifact, Store, sha256_json
from tasks import progress

LONG_S = 24 * 3600.0  # of stages that ask the network about every recording
LASTING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}  # until somebody mends it
NOT_DIGESTED = {"digested": "no"}  # on a field of a stage's result: words for people, which change no work


def fingerprint(value: Any) -> Any:
    """What a cache key sees of an input: digests of contents and settings, never paths or times."""
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
    elif isinstance(result, BaseModel):
        for name in type(result).model_fields:
            yield from artifacts_in(getattr(result, name))
    elif isinstance(result, Mapping):
        for item in result.values():
            yield from artifacts_in(item)
    elif isinstance(result, (list, tuple)):
        for item in result:
            yield from artifacts_in(item)


def files_intact(result: Any, store: Store) -> bool:
    """Whether all files of a result are in the store with the content that their digests name."""
    return all(store.intact(artifact) for artifact in artifacts_in(result))


@dataclass
class StageKey(CachePolicy):
    """Cache key = stage, its version, and the fingerprints of its inputs (the store left out).

    A cached result proves only that its small JSON exists. When ``valid`` says that what it names is gone or
    damaged, the key of the next rebuild is given instead, so that the stage runs again.
    """

    stage: str = ""
    version: str = ""
    valid: Callable[[Any, Store], bool] = files_intact

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any], **kwargs: Any
    ) -> str:
        seen = {name: fingerprint(value) for name, value in inputs.items() if not isinstance(value, Store)}
        (store,) = (value for value in inputs.values() if isinstance(value, Store))
        key = f"{self.stage}-v{self.version}-{sha256_json(seen)}".replace(" ", "-")
        results = get_result_store()
        for rebuild in itertools.count():
            candidate = key if rebuild == 0 else f"{key}-rebuild{rebuild}"
            if not results.exists(candidate):
                return candidate
            if self.valid(results.read(candidate).result, store):
                progress.unchanged(self.stage)
                return candidate
        raise AssertionError("unreachable")


def is_transient(task: Task, task_run: TaskRun, state: State) -> bool:
    """Retry what may pass by itself (reading or writing failed), never a full disk or wrong data or settings."""
    try:
        state.result()
    except TaskRunTimeoutError:  # an OSError, too, but the same would take as long again
        return False
    except OSError as error:
        return error.errno not in LASTING
    except Exception:
        return False
    return False


def stage(
    name: str, version: str, timeout_s: float | None = 3600, valid: Callable[[Any, Store], bool] | None = None
) -> Callable[[Callable[..., Any]], Task]:
    """A Prefect task that is cached by content, retried on I/O errors and bounded in time.

    Give no ``timeout_s`` to a task that runs in threads: Prefect cannot interrupt one there.
    """
    return task(
        name=name,
        cache_policy=StageKey(stage=name, version=version, valid=valid or files_intact),
        persist_result=True,
        result_serializer="json",
        retries=3,
        retry_delay_seconds=exponential_backoff(2),
        retry_jitter_factor=0.5,
        retry_condition_fn=is_transient,
        timeout_seconds=timeout_s,
    )
