"""Pruning: which of a store's files nothing needs any more.

A file is kept while something refers to it: a cached result that was used lately, the record of what was accepted last, a kept
version of a model, or one of the newest data sets. Any other is removed once it is so old that no run in progress reads it.
"""

import json
import re
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from heartdata.dataset.spectrogram_shards import FOLDER, index_name
from heartdata.errors import StoreError
from heartdata.settings import Settings
from heartdata.storage.shards import into_shards
from heartdata.storage.store import Store, StoredFile

DAY_S = 24 * 3600
RECENT_S = DAY_S  # younger files may belong to a run in progress
STARTED_S = 3 * DAY_S  # a training that is in progress started later than that
TABLES = (
    "accepted", "champion-predictions", "checks", "facts", "folds", "manifest", "metrics", "near-duplicates", "plots",
    "predictions", "provenance", "quarantine", "recordings", "report", "scores", "slices", "splits", "studies", "verdicts",
)  # fmt: skip
LOCAL = ("calibrate", "data-docs", "logs", "progress")  # folders of this machine, of a bucket in its working folder
COMPARED = ("accepted", "compared_with", "reference", "verdicts")  # of a record of what was accepted last
RUN_LOG = re.compile(r"logs/\d{8}-\d{6}-\d+\.log(\.1)?")  # those of the servers are rotated by `heartbeat up`
STAYS = re.compile(r"accepted/last-\w+\.json|recordings/seen\.parquet|models/\w+\.json")
REBUILD = re.compile(r"-rebuild\d+$")


class RetentionConfig(Settings):
    """What `heartbeat prune` keeps, beside all that a kept version needs. Nothing written or used within a day is removed."""

    versions: int = Field(
        default=10, ge=1, description="newest versions of each model to keep, beside champions and their origins"
    )
    data_sets: int = Field(default=10, ge=1, description="newest data sets to keep spectrograms for")
    days: int = Field(
        default=30,
        ge=2,
        description="how long runs in Prefect, results, tables, logs and reports are kept after their last use",
    )
    nightly: bool = Field(default=False, description="`heartbeat up` prunes every night")


@dataclass(frozen=True)
class CachedResult:
    """A record of a stage's result: its name, when a run last used it, its size, and the names of the files that it needs."""

    name: str
    used_s: float
    size_bytes: int
    files: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """The files and the cached results to remove, the manifests that are kept, and how many shards these refer to."""

    files: tuple[StoredFile, ...]
    results: tuple[CachedResult, ...]
    kept_manifests: tuple[str, ...]
    kept_shards: int


@dataclass(frozen=True)
class Needed:
    """Of the models: names of files that kept versions need, and of weights that only removed ones had."""

    files: frozenset[str] = frozenset()
    removed_weights: frozenset[str] = frozenset()


def plan_files(
    store: Store, entries: Collection[StoredFile], results: Collection[CachedResult], needed: Needed,
    config: RetentionConfig, now_s: float | None = None,
) -> Plan:  # fmt: skip
    """What can be removed of a store that holds ``entries`` and has the cached ``results``.

    Ages count from the last run, so that the night after a long pause finds what it needs. Raises `StoreError` when a kept
    manifest or list of recordings cannot be read, since it is then unknown what that needs.
    """
    now_s = time.time() if now_s is None else now_s
    last_run_s = max((result.used_s for result in results), default=now_s)
    old_s = min(now_s, last_run_s) - config.days * DAY_S
    manifests = _newest_manifests(entries, results, needed.files, config.data_sets)
    shards = {shard for name in manifests for shard in _column(name, "shard", store)}
    kept_shards = shards | {index_name(shard) for shard in shards}
    in_use = {name for result in results if result.used_s >= now_s - RECENT_S for name in result.files}
    in_use |= {index_name(e.name) for e in entries if _is_shard(e.name) and e.modified_s >= now_s - RECENT_S}
    gone = {e.name for e in entries if _is_shard(e.name) and index_name(e.name) not in in_use} - kept_shards
    gone |= needed.removed_weights - in_use
    present = {e.name for e in entries} - gone
    live = live_results(results, gone, old_s, needed.files)
    named = {name for result in results if result.name in live for name in result.files}
    named |= {*needed.files, *manifests} | _accepted_last(present, store)
    named |= _facts_of([e.name for e in entries if _is_listing(e.name) and e.modified_s >= old_s], present, store)
    files = [
        e
        for e in entries
        if e.name in gone or (e.name not in kept_shards and referred(e.name) not in named and _is_over(e, now_s, old_s))
    ]
    return Plan(tuple(files), tuple(r for r in results if r.name not in live), tuple(manifests), len(shards))


def live_results(
    results: Iterable[CachedResult], gone: Collection[str], old_s: float, needed: Collection[str]
) -> set[str]:
    """Names of the cached results that are kept: they were used lately, or a kept version needs one of their files, and none
    of these is ``gone``.

    A result that was rebuilt is found only through its earlier records, which are kept with it.
    """
    removed, kept = frozenset(gone), frozenset(needed)
    groups: dict[str, list[CachedResult]] = {}
    for result in results:
        groups.setdefault(REBUILD.sub("", result.name), []).append(result)
    return {
        result.name
        for group in groups.values()
        if any(not r.files & removed and (r.used_s >= old_s or _own_files(r) & kept) for r in group)
        for result in group
    }


def _own_files(result: CachedResult) -> frozenset[str]:
    """Files that say whose result it is: of a validation its data docs, as its tables are also those that it compared with."""
    return frozenset(name for name in result.files if name.startswith("data-docs/")) or result.files


def files_in(record: Any) -> Iterator[str]:
    """The names of the files that a decoded record of a stage refers to, as `referred` gives them."""
    if isinstance(record, dict):
        if {"name", "digest", "rows"} <= record.keys():
            yield record["name"]
        if docs := record.get("data_docs"):
            yield docs
    for value in record.values() if isinstance(record, dict) else record if isinstance(record, list) else ():
        yield from files_in(value)


def referred(name: str) -> str:
    """What records call a file: data docs and scores by their folder, a search for near-duplicates by its table of pairs."""
    if name.startswith(("data-docs/", "scores/")):
        return "/".join(PurePosixPath(name).parts[:2])
    return name.replace(".searched.parquet", ".parquet")


def is_local(name: str) -> bool:
    """Whether a file is in the local folder of a store in a bucket."""
    return name.startswith((*(f"{folder}/" for folder in LOCAL), "reproduce-"))


def _is_over(entry: StoredFile, now_s: float, old_s: float) -> bool:
    """Whether a file that nothing refers to is old enough to be removed."""
    name, folder = entry.name, PurePosixPath(entry.name).parts[0]
    if STAYS.fullmatch(name) or (folder == "logs" and not RUN_LOG.fullmatch(name)):
        return False
    if folder in (FOLDER, "models", "initial", *TABLES, *LOCAL) and name.endswith(".tmp"):
        return entry.modified_s < now_s - RECENT_S
    if folder == "initial" or folder.startswith("reproduce-"):
        return entry.modified_s < now_s - STARTED_S
    return folder in (FOLDER, "models", *TABLES, *LOCAL) and not _is_shard(name) and entry.modified_s < old_s


def _is_shard(name: str) -> bool:
    """Whether a file is a shard of spectrograms or its index, rather than the table of all indexes."""
    return name.startswith(f"{FOLDER}/") and len(PurePosixPath(name).parts) > 2 and not name.endswith(".tmp")


def _is_listing(name: str) -> bool:
    return name.startswith("recordings/") and name.endswith(".parquet") and not STAYS.fullmatch(name)


def _newest_manifests(
    entries: Iterable[StoredFile], results: Iterable[CachedResult], needed: Collection[str], count: int
) -> list[str]:
    """The ``count`` manifests that were made or used last, and those ``needed``."""
    used = {name: result.used_s for result in sorted(results, key=lambda r: r.used_s) for name in result.files}
    made = {e.name: e.modified_s for e in entries if e.name.startswith("manifest/") and e.name.endswith(".parquet")}
    newest = sorted(made, key=lambda name: (-max(made[name], used.get(name, 0)), name))
    return newest[:count] + [name for name in newest[count:] if name in needed]


def _accepted_last(present: Iterable[str], store: Store) -> set[str]:
    """The files that the next run of each source or series compares with."""
    records = (name for name in present if name.startswith("accepted/last-") and name.endswith(".json"))
    named: set[str] = set()
    for name in records:
        try:
            record = json.loads(store.local(name).read_bytes())
            named |= set(files_in([record.get(field) for field in COMPARED]))
        except (ValueError, AttributeError):  # the next run says so, and compares with none
            continue
    return named


def _facts_of(listings: Iterable[str], present: Iterable[str], store: Store) -> set[str]:
    """The shards of facts of the recordings in ``listings``, whatever they were measured with."""
    wanted = set()
    for listing in listings:
        hashes = {sha256 for sha256 in _column(listing, "sha256", store) if sha256}
        wanted |= {PurePosixPath(shard.file("", ".parquet")).name for shard in into_shards((h, "") for h in hashes)}
    return {name for name in present if name.startswith("facts/") and PurePosixPath(name).name in wanted}


def _column(name: str, column: str, store: Store) -> set[Any]:
    try:
        table = pq.read_table(store.local(name), columns=[column], page_checksum_verification=True)
        return set(table.column(column).to_pylist())
    except (OSError, pa.ArrowException, KeyError) as error:
        raise StoreError(
            f"{store.address(name)} cannot be read, so it is unknown which files it needs ({error}): remove it or run the "
            "pipeline again, then prune"
        ) from error
