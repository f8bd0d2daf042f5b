"""What `heartbeat prune` removes from a store, its registry and its databases, and in which order."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from heartdata.config import RunConfig
from heartdata.dataset.prune import TABLES as TABLE_FOLDERS
from heartdata.dataset.prune import CachedResult, Needed, Plan, files_in, is_local, plan_files, referred
from heartdata.dataset.spectrogram_shards import index_name
from heartdata.serving.model_config import digest_of
from heartdata.storage.locks import exclusive
from heartdata.storage.remote import is_remote
from heartdata.storage.store import Artifact, Store, StoredFile, sha256_file
from heartdata.storage.usage import IN_MLFLOW, OTHER, RESULTS, TABLES, sizes_by_kind, stored_files
from tasks.champion_predictions import predictions_name
from tasks.databases import compact, remove_old_runs
from tasks.engine.versions import STAGES
from tasks.registry.deleted_rows import remove_deleted_rows
from tasks.registry.previous import ACCEPTED_TAG
from tasks.registry.pruning import VersionPlan, plan_versions, removal_bytes, remove_run, weights_name, weights_of
from tasks.registry.version_files import INIT_TAG
from tasks.score import scores_folder

ROWS_STAY = "MLflow's server keeps the rows of removed runs, marked as deleted: run `mlflow gc --older-than 1d` where its database is"
RESULTS_ELSEWHERE = "tables and weights stay, since Prefect's records of cached results, which may name them, are in a bucket or on other machines"


@dataclass(frozen=True)
class StorePlan:
    """What is removed: versions and runs, with their bytes in MLflow, and files. ``held``: the store's bytes by kind.

    ``of_removed``: names of the files that the versions to remove need, as `referred` gives them.
    ``results_elsewhere``: the cached results that name the store's files may not be on this machine.
    """

    versions: VersionPlan
    version_bytes: tuple[int, ...]
    files: Plan
    of_removed: frozenset[str]
    held: dict[str, int]
    days: int
    results_elsewhere: bool

    @property
    def removed(self) -> dict[str, int]:
        """Bytes by kind; how much databases shrink is known only afterwards."""
        sizes = sizes_by_kind(self.files.files)
        sizes[IN_MLFLOW] = sizes.get(IN_MLFLOW, 0) + sum(self.version_bytes)
        sizes[RESULTS] = sum(result.size_bytes for result in self.files.results)
        return {kind: size for kind, size in sizes.items() if size}

    @property
    def counts(self) -> str:
        """How much is removed, for people."""
        versions, files = len(self.versions.removals), len(self.files.files) + len(self.files.results)
        return f"{versions} versions or runs and {files} files of {megabytes(sum(self.removed.values()))}"


def only_prune(store: Store) -> AbstractContextManager[None]:
    """Nothing else removes files meanwhile. Raises `HeartbeatError` while another process prunes the store, or backs it up."""
    message = f"{store.uri} is being pruned or backed up: run again when that has finished"
    return exclusive(store.workpath("prune.lock"), message)


def plan_store(config: RunConfig, store: Store, now_s: float | None = None) -> StorePlan:
    """What `remove` would remove. Raises `HeartbeatError`."""
    versions = plan_versions(config.registry, store, config.retention.versions, now_s)
    entries = stored_files(store)
    digests = _settings_digests(entries, store)
    needed = Needed(frozenset(_needed(versions.versions, digests)), versions.weights)
    removed = [(removal.version, removal.run) for removal in versions.removals if removal.version]
    files = plan_files(store, entries, list(_cached_results()), needed, config.retention, now_s)
    if elsewhere := _results_elsewhere(store):
        removable = (e for e in files.files if not _is_named_by_results(e.name) or e.name in versions.weights)
        files = replace(files, files=tuple(removable))
    return StorePlan(
        versions,
        tuple(removal_bytes(removal, config.registry, store) for removal in versions.removals),
        files,
        frozenset(_needed(removed, digests)),
        sizes_by_kind(entries),
        config.retention.days,
        elsewhere,
    )


def remove(plan: StorePlan, config: RunConfig, store: Store, advance: Callable[..., None]) -> list[str]:
    """Remove what is planned, and old rows of the databases; returns sentences on what stays. Raises `HeartbeatError`.

    What a run has used or written since it was planned stays. One that is interrupted is finished by the next.
    """
    removals = plan.versions.removals
    # arrays after their indexes, which say when a shard was used
    files = sorted(plan.files.files, key=lambda entry: entry.name.endswith(".npy"))
    total = len(removals) + len(files) + 1
    used = {name for result in plan.files.results if not _remove_result(result) for name in result.files}

    def remove_files(entries: list[StoredFile], done: int) -> None:
        for number, entry in enumerate(entries, done):
            advance(number, total, "")
            if referred(entry.name) not in used:
                _remove_file(entry, store)

    # a full disk has no room for MLflow's database to remove a version, so what is free to go makes some first
    first = [entry for entry in files if referred(entry.name) not in plan.of_removed]
    remove_files(first, 0)
    store.remove_old_copies()
    for done, removal in enumerate(removals, len(first)):
        advance(done, total, removal.title)
        remove_run(removal, config.registry, store)
    remove_files([entry for entry in files if referred(entry.name) in plan.of_removed], len(first) + len(removals))
    advance(total - 1, total, "databases")
    notes = [RESULTS_ELSEWHERE] if plan.results_elsewhere else []
    notes += [] if remove_deleted_rows(config.registry, store) or not removals else [ROWS_STAY]
    notes += filter(None, [remove_old_runs(config.retention.days)])
    notes += compact(config.registry, store)
    advance(total, total, "")
    return notes


def _settings_digests(entries: Iterable[StoredFile], store: Store) -> list[str]:
    """Of the settings of all models."""
    settings = [e.name for e in entries if e.name.startswith("models/") and e.name.endswith(".json")]
    return [sha256_file(store.local(name)) for name in settings]


def _needed(versions: Iterable[tuple[Any, Any]], settings_digests: Sequence[str]) -> Iterator[str]:
    """The names of files that ``versions``, each with its run, need, as `referred` gives them."""
    for version, run in versions:
        tags = version.tags
        yield f"manifest/{tags.get('dataset_version', '')[:20]}.parquet"
        yield predictions_name(version)
        if ACCEPTED_TAG in tags:
            yield Artifact.model_validate_json(tags[ACCEPTED_TAG]).name
        for weights in weights_of(run) if run else ():
            yield weights_name(weights)
            yield from (scores_folder(digest_of(weights, digest)) for digest in settings_digests)
        if run:
            yield f"initial/{run.data.tags.get(INIT_TAG, '')[:20]}.safetensors"
            yield f"data-docs/{Path(run.data.tags.get('data_docs', '')).parent.name}"


def _results_folder() -> Path:
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

    return Path(PREFECT_LOCAL_STORAGE_PATH.value())


def _results_elsewhere(store: Store) -> bool:
    """Whether cached results of other machines may name the store's files: they are in a bucket, or the store is."""
    from prefect.settings import PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK

    return is_remote(store.uri) or bool(PREFECT_RESULTS_DEFAULT_STORAGE_BLOCK.value())


def _is_named_by_results(name: str) -> bool:
    return Path(name).parts[0] in (*TABLE_FOLDERS, "models", "initial") and not name.endswith(".tmp")


def _cached_results() -> Iterator[CachedResult]:
    """The records of our stages; of one that cannot be decoded, no files are known."""
    ours = re.compile(rf"({'|'.join(name.replace(' ', '-') for name in STAGES)})-v.+")
    folder = _results_folder()
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if ours.fullmatch(path.name):
            files: frozenset[str] = frozenset()
            with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
                files = frozenset(files_in(json.loads(json.loads(path.read_bytes())["result"])))
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield CachedResult(path.name, stat.st_mtime, stat.st_size, files)


def _remove_result(result: CachedResult) -> bool:
    """Remove a record, unless a run has used it since it was planned."""
    path = _results_folder() / result.name
    with suppress(FileNotFoundError):
        if path.stat().st_mtime != result.used_s:
            return False
        path.unlink()
    return True


def _remove_file(entry: StoredFile, store: Store) -> None:
    """Remove a file, unless it was written or, of spectrograms, used since it was planned."""
    if not is_local(entry.name):
        if not (entry.name.endswith(".npy") and store.exists(index_name(entry.name))):
            store.remove(entry.name, entry.modified_s)
        return
    Store(store.root).remove(entry.name, entry.modified_s)
    with suppress(OSError):  # the first that is not empty
        for folder in list(Path(entry.name).parents)[:-1]:
            store.workpath(str(folder)).rmdir()


def rows_before(plan: StorePlan) -> list[dict[str, str]]:
    """For people: bytes by kind, those to remove, and why the others stay."""
    return [
        {
            "kind": kind,
            "held": megabytes(size),
            "to remove": _or_none(plan.removed.get(kind, 0)),
            "kept": _why_kept(kind, plan),
        }
        for kind, size in _largest_first({**plan.removed, **plan.held})
    ]


def rows_after(plan: StorePlan, held: dict[str, int]) -> list[dict[str, str]]:
    """For people: bytes by kind before and after."""
    return [
        {"kind": kind, "before": megabytes(size), "after": megabytes(held.get(kind, 0))}
        for kind, size in _largest_first(plan.held)
    ]


def freed(plan: StorePlan, held: dict[str, int]) -> str:
    """A sentence: what was removed, and how much the store held before and holds now."""
    before, after = sum(plan.held.values()), sum(held.values())
    return f"{plan.counts} removed: the store held {megabytes(before)} and holds {megabytes(after)}"


def megabytes(size_bytes: int) -> str:
    """A size in MB."""
    return f"{size_bytes / 1e6:.1f} MB"


def _or_none(size_bytes: int) -> str:
    return megabytes(size_bytes) if size_bytes else ""


def _largest_first(sizes: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(sizes.items(), key=lambda pair: -pair[1])


def _why_kept(kind: str, plan: StorePlan) -> str:
    kept = plan.files
    elsewhere = "results of other machines may name them"
    reasons = {
        IN_MLFLOW: ", ".join(f"{count} {why}" for why, count in plan.versions.kept.items()),
        "spectrograms": f"{kept.kept_shards} shards of {len(kept.kept_manifests)} data sets",
        **dict.fromkeys(("latest run", "unpacked and synthetic recordings", OTHER), "always"),
        **(dict.fromkeys((TABLES, "weights", "initial weights"), elsewhere) if plan.results_elsewhere else {}),
    }
    return reasons.get(kind, f"used within {plan.days} days, or by a kept version")
