"""The first stage: the recordings that a source lists, with the content hash of each file."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from heartdata.errors import SourceError
from heartdata.sources.base import Source, SourceRecording
from heartdata.storage.hash_cache import HashCache, file_state, sha256_of
from heartdata.storage.schemas import RECORDINGS
from heartdata.storage.store import table_from_rows

BATCHES = 200  # of recordings, for threads: a task a recording would cost more than comparing a known file's times


def take_inventory(
    source: Source,
    workdir: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seen: HashCache | None = None,
) -> tuple[pa.Table, list[str]]:
    """All recordings of ``source`` (schema RECORDINGS, sorted by id) and the source's notes.

    Files are hashed in threads, except those that are unchanged by ``seen``; ``progress(done, total)`` is called now and
    then. Raises `SourceError` when there are no recordings or two have one id, OSError for a reading fault that may pass.
    """
    listing = source.listing(workdir)
    recordings = sorted(listing.recordings, key=lambda recording: recording.recording_id)
    if not recordings:
        raise SourceError(f"the source {source.name} lists no recordings: is the folder empty?")
    for one, other in pairwise(recordings):
        if one.recording_id == other.recording_id:
            raise SourceError(f"two recordings have the id {one.recording_id!r}: ids must be unique")
    rows = []
    batches = [recordings[start::BATCHES] for start in range(min(BATCHES, len(recordings)))]
    with ThreadPoolExecutor() as pool:
        for batch in pool.map(lambda some: [_row(r.source or source.name, r, seen) for r in some], batches):
            rows += batch
            progress(len(rows), len(recordings))
    rows.sort(key=lambda row: str(row["recording_id"]))
    return table_from_rows(rows, RECORDINGS), list(listing.notes)


def _row(source: str, recording: SourceRecording, seen: HashCache | None) -> dict[str, object]:
    missing, sha256, size = recording.missing, None, None
    if recording.path is not None:
        try:
            sha256, size = seen.sha256(recording.path) if seen else _hashed(recording.path)
        except (FileNotFoundError, PermissionError) as error:  # other faults of reading may pass: they are raised
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
        "extra": json.dumps(recording.extra, sort_keys=True, ensure_ascii=False),
    }


def _hashed(file: Path | str) -> tuple[str, int]:
    return sha256_of(file), file_state(file)["size_bytes"]
