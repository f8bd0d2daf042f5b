"""Fanning a task out over shards inside a flow, on the engine that the settings name, with progress in files."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from joblib import cpu_count
from prefect import Task
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from heartdata.config import EngineConfig
from heartdata.errors import ConfigError
from heartdata.storage.shards import Shard
from tasks.engine.progress import track
from tasks.engine.workers import Workers, one_blas_thread

FEW = 500  # recordings that threads have done before processes have started


@dataclass(frozen=True)
class FannedOut:
    """The results in the order of the shards, and those of them that were made now."""

    results: list[Any]
    fresh: list[Any]


def task_runner(engine: EngineConfig) -> TaskRunner[Any]:
    """What runs the shards of a flow. Threads wait for processes of this machine; Dask's workers do all themselves."""
    workers = engine.workers or cpu_count()
    if engine.name != "dask":
        return ThreadPoolTaskRunner(max_workers=workers)
    try:
        import dask
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ConfigError("engine.name = 'dask' needs Dask: pip install -e '.[dask]' in heartbeat's folder") from error
    if engine.address:
        return DaskTaskRunner(address=engine.address)
    dask.config.set({"distributed.nanny.pre-spawn-environ": {}})  # else this process, which trains, is left one thread
    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=local)


def fan_out(
    task: Task, shards: Sequence[Shard], there: Sequence[Any], stage: str, engine: EngineConfig, **inputs: Any
) -> FannedOut:
    """Submit ``task`` once a shard to the flow's task runner, but for those whose result is ``there`` (else None).

    So what Prefect costs grows with what is new. Raises what the first failed task raised, once all have ended:
    finished shards are there for the next run.
    """
    missing = [shard for shard, found in zip(shards, there, strict=True) if found is None]
    total, to_do = (sum(len(s.recordings) for s in some) for some in (shards, missing))
    with track(stage, total, "distinct files") as advance, computing_in(engine, to_do):
        # quote: else Prefect looks for futures in every pair of every shard, several times (Dask's workers get it as it is)
        wrap = quote if engine.name != "dask" else lambda shard: shard
        futures = [task.submit(shard=wrap(shard), **inputs) for shard in missing]
        sizes = {f.task_run_id: len(s.recordings) for f, s in zip(futures, missing, strict=True)}
        done, fresh = total - to_do, set()
        advance(done, detail=news(done, total, 0, len(shards)))
        for future in as_completed(futures):
            future.wait()  # else the state is the server's last word, which may lag
            done += sizes[future.task_run_id]
            if future.state.name != "Cached":
                fresh.add(future.task_run_id)
            advance(done, detail=news(done, total, len(fresh), len(shards)))
        made = [future.result() for future in futures]
        in_order = iter(made)
        results = [next(in_order) if found is None else found for found in there]
        return FannedOut(results, [r for r, f in zip(made, futures, strict=True) if f.task_run_id in fresh])


def news(done: int, total: int, fresh: int, shards: int) -> str:
    """How far it is, and what was new as far as that is known."""
    told = f"{done} distinct files"
    if fresh:
        return f"{told}; {fresh} of {shards} shards were new"
    return f"{told}; nothing new" if done == total else told


def computing_in(engine: EngineConfig, recordings: int) -> AbstractContextManager[Workers | None]:
    """While this is open, `compute` does its work where ``engine`` says; for a few recordings no process is started."""
    return Workers() if engine.name == "processes" and recordings > FEW else nullcontext()


def compute(new: int, function: Callable[..., Any], shard: Shard, *args: Any) -> Any:
    """Call ``function`` for a shard, ``new`` recordings of which are work, in a worker process.

    Here where these are few, the shard's part of FEW, or when the engine's threads (or Dask's workers) compute.
    """
    if Workers.open is not None and new > FEW // shard.of:
        return Workers.open.call(function, shard, *args)
    one_blas_thread()
    return function(shard, *args)
