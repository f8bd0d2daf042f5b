"""Fan a task out over shards inside a flow, on the engine that the settings name, with progress in files."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from prefect import Task
from prefect.futures import as_completed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from heartdata.config import EngineConfig
from heartdata.errors import ConfigError
from heartdata.processes import cpu_count, why_no_processes
from heartdata.storage.shards import Shard
from tasks.engine.progress import add_note, notes, track
from tasks.engine.workers import Workers, one_blas_thread

FEW = 500  # recordings that threads finish before worker processes have started


@dataclass(frozen=True)
class FannedOut:
    """The results in the order of the shards, and those of them that were computed now."""

    results: list[Any]
    fresh: list[Any]


def task_runner(engine: EngineConfig) -> TaskRunner[Any]:
    """The Prefect task runner for shards: threads, which wait for worker processes of this machine, or Dask."""
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
    dask.config.set({"distributed.nanny.pre-spawn-environ": {}})  # else training in this process gets one thread
    local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_class="distributed.LocalCluster", cluster_kwargs=local)


def fan_out(
    task: Task, shards: Sequence[Shard], existing: Sequence[Any], stage: str, engine: EngineConfig, **inputs: Any
) -> FannedOut:
    """Run ``task`` on the engine's task runner for each shard whose ``existing`` result is None, inside a flow.

    Prefect's overhead thus grows only with the number of new shards. Raises what the first failed task raised, once all
    have ended: the next run finds the finished shards.
    """
    missing = [shard for shard, result in zip(shards, existing, strict=True) if result is None]
    total, to_do = (sum(len(s.recordings) for s in some) for some in (shards, missing))
    runner: Any = (
        task_runner(engine) if missing else nullcontext()
    )  # not a flow of its own, whose end waits for a heartbeat
    with track(stage, total, "distinct files") as advance, computing_in(engine, to_do), runner:
        # quote: else Prefect searches every pair of every shard for futures, several times (Dask does not unwrap it)
        wrap = quote if engine.name != "dask" else lambda shard: shard
        futures = [runner.submit(task, {"shard": wrap(shard), **inputs}) for shard in missing]
        sizes = {f.task_run_id: len(s.recordings) for f, s in zip(futures, missing, strict=True)}
        done, fresh = total - to_do, set()
        advance(done, detail=detail(done, total, 0, len(shards)))
        for future in as_completed(futures):
            future.wait()  # else the state is the one that the server sent last, which may lag
            done += sizes[future.task_run_id]
            if future.state.name != "Cached":
                fresh.add(future.task_run_id)
            advance(done, detail=detail(done, total, len(fresh), len(shards)))
        computed = [future.result() for future in futures]
        in_order = iter(computed)
        results = [next(in_order) if result is None else result for result in existing]
        return FannedOut(results, [r for r, f in zip(computed, futures, strict=True) if f.task_run_id in fresh])


def detail(done: int, total: int, fresh: int, shards: int) -> str:
    """How many files are done, and how many shards were new; "nothing new" only once that is certain."""
    text = f"{done} distinct files"
    if fresh:
        return f"{text}; {fresh} of {shards} shards were new"
    return f"{text}; nothing new" if done == total else text


def computing_in(engine: EngineConfig, recordings: int) -> AbstractContextManager[Workers | None]:
    """A context in which `compute` works where ``engine`` says; for few recordings no process is started.

    Nor is one where the system lacks the shared memory that processes need, as some containers do.
    """
    if engine.name != "processes" or recordings <= FEW:
        return nullcontext()
    if reason := why_no_processes():
        text = (
            f"worker processes cannot start here ({reason}), so threads compute, which is slower: let the container have a "
            "writable /dev/shm, or set engine.name=threads"
        )
        if text not in notes():
            add_note(text)
        return nullcontext()
    return Workers()


def compute(new: int, function: Callable[..., Any], shard: Shard, *args: Any) -> Any:
    """Call ``function`` for a shard with so many ``new`` recordings, in a worker process.

    It is called in this process if they are few (at most the shard's share of FEW), or if threads or Dask compute.
    """
    if Workers.current is not None and new > FEW // shard.of:
        return Workers.current.call(function, shard, *args)
    one_blas_thread()
    return function(shard, *args)
