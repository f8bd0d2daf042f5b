"""Fanning a task out over shards inside a flow, on the engine that the settings name, with progress in recordings."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from joblib import cpu_count
from prefect import Task
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from heartdata.config import EngineConfig
from heartdata.errors import ConfigError
from heartdata.shards import Shard
from heartdata.workers import Workers, one_blas_thread
from tasks.progress import track

FEW = 500  # recordings that threads have done before processes have started


@dataclass(frozen=True)
class FannedOut:
    """The results in the order of the shards, and those of them that were not taken from the cache."""

    results: list[Any]
    fresh: list[Any]


def task_runner(engine: EngineConfig) -> TaskRunner:
    """What runs the shards of a flow. Threads wait for processes of this machine; Dask's workers do all themselves."""
    workers = engine.workers or cpu_count()
    if engine.name != "dask":
        return ThreadPoolTaskRunner(max_workers=workers)
    try:
        import dask
        from prefect_dask import DaskTaskRunner
    except ImportError as error:
        raise ConfigError("engine.name = 'dask' needs Dask: pip install 'heartbeat[dask]'") from error
    if engine.address:
        return DaskTaskRunner(address=engine.address)
    dask.config.set({"distributed.nanny.pre-spawn-environ": {}})  # else this process, which trains, is left one thread
    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=local)


def fan_out(task: Task, shards: Sequence[Shard], stage: str, engine: EngineConfig, **inputs: Any) -> FannedOut:
    """Submit ``task`` once a shard to the flow's task runner.

    Raises what the first failed task raised, once all have ended: finished shards stay cached for the next run.
    """
    total = sum(len(s.recordings) for s in shards)
    with track(stage, total, "recordings") as advance, computing_in(engine, total):
        futures = [task.submit(shard=shard, **inputs) for shard in shards]
        sizes = {f.task_run_id: len(s.recordings) for f, s in zip(futures, shards, strict=True)}
        done, fresh = 0, set()
        for future in as_completed(futures):
            future.wait()  # else the state is the server's last word, which may lag
            done += sizes[future.task_run_id]
            if future.state.name != "Cached":
                fresh.add(future.task_run_id)
            news = f"{len(fresh)} of {len(shards)} shards were new" if fresh else "nothing new"
            advance(done, detail=f"{done} recordings; {news}")
        results = [future.result() for future in futures]
        return FannedOut(results, [r for r, f in zip(results, futures, strict=True) if f.task_run_id in fresh])


def computing_in(engine: EngineConfig, recordings: int) -> AbstractContextManager[Workers | None]:
    """While this is open, `compute` does its work where ``engine`` says; for a few recordings no process is started."""
    return Workers() if engine.name == "processes" and recordings > FEW else nullcontext()


def compute(function: Callable[..., Any], *args: Any) -> Any:
    """Call ``function`` in a worker process, or here when the engine's threads (or Dask's workers) compute."""
    if Workers.open is not None:
        return Workers.open.call(function, *args)
    one_blas_thread()
    return function(*args)
