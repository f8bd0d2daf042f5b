"""The inventory: the recordings that a source lists, with the content hash of each file."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from heartdata.errors import SourceError
from heartdata.sources.base import MakesRecordings, Source, SourceRecording
from heartdata.sources.corrections import corrected_listing
from heartdata.storage.hash_cache import HashCache, file_state, sha256_of
from heartdata.storage.schemas import RECORDINGS
from heartdata.storage.store import table_from_rows

BATCHES = 200  # for threads: a task per recording would cost more than looking an unchanged file up


def take_inventory(
    source: Source,
    workdir: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seen: HashCache | None = None,
) -> tuple[pa.Table, list[str]]:
    """List the recordings of ``source`` (schema RECORDINGS, sorted by id), with its corrections; and its notes for people.

    ``workdir``: where the source may keep files of its own, such as recordings that it synthesizes.
    Files are hashed in threads, except those that are unchanged since they were ``seen``. Raises `SourceError` when
    there are no recordings or ids repeat, OSError for a read error that a retry may cure.
    """
    if isinstance(source, MakesRecordings):
        source.make(workdir, progress)
    listing = corrected_listing(source, workdir)
    recordings = sorted(listing.recordings, key=lambda recording: recording.recording_id)
    if not recordings:
        raise SourceError(
            f"the source {source.name} lists no recordings: give a folder or table that has some with --data"
        )
    for a, b in pairwise(recordings):
        if a.recording_id == b.recording_id:
            raise SourceError(f"two recordings have the id {a.recording_id!r}: ids must be unique")
    rows = []
    batches = [recordings[start::BATCHES] for start in range(min(BATCHES, len(recordings)))]
    with ThreadPoolExecutor() as pool:
        for batch in pool.map(lambda batch: [_row(r.source or source.name, r, seen) for r in batch], batches):
            rows += batch
            progress(len(rows), len(recordings))
    rows.sort(key=lambda row: str(row["recording_id"]))
    return table_from_rows(rows, RECORDINGS), list(listing.notes)


def _row(source: str, recording: SourceRecording, seen: HashCache | None) -> dict[str, object]:
    missing, sha256, size = recording.missing, None, None
    if recording.path is not None:
        try:
            sha256, size = seen.sha256(recording.path) if seen else _hashed(recording.path)
        except (FileNotFoundError, PermissionError) as error:  # other errors are raised, as a retry may cure them
            missing = f"{recording.path} cannot be read ({error.strerror})"
    return {
        "recording_id": recording.recording_id,
        "uri": str(recording.path) if recording.path else None,
        "sha256": sha256,
        "size_bytes": size,
        "source": source,
        "collection": recording.collection,
        "subject": recording.subject,
        "site": recording.site,
        "label": recording.label,
        "missing": missing,
        "excluded": recording.excluded,
        "extra": json.dumps(recording.extra, sort_keys=True, ensure_ascii=False),
    }


def _hashed(file: Path | str) -> tuple[str, int]:
    return sha256_of(file), file_state(file)["size_bytes"]
