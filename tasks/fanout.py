"""Fanning a task out over shards inside a flow, with progress in recordings."""

import os
from collections.abc import Sequence
from typing import Any

from prefect import Task
from prefect.futures import as_completed

from heartdata.shards import Shard
from tasks.progress import track

WORKERS = os.cpu_count() or 1  # shards at work at once


def fan_out(task: Task, shards: Sequence[Shard], stage: str, **inputs: Any) -> list[Any]:
    """Submit ``task`` once a shard to the flow's task runner; results in the order of ``shards``.

    Raises what the first failed task raised, once all have ended: finished shards stay cached for the next run.
    """
    with track(stage, sum(len(s.recordings) for s in shards), "recordings") as advance:
        futures = [task.submit(shard=shard, **inputs) for shard in shards]
        sizes = {f.task_run_id: len(s.recordings) for f, s in zip(futures, shards, strict=True)}
        done = fresh = 0
        for future in as_completed(futures):
            future.wait()  # else the state is the server's last word, which may lag
            done += sizes[future.task_run_id]
            fresh += future.state.name != "Cached"
            news = f"{fresh} of {len(shards)} shards were new" if fresh else "nothing new"
            advance(done, detail=f"{done} recordings; {news}")
        return [future.result() for future in futures]
