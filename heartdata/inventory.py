"""The first stage: what a source names, with the content hash of each file."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from heartdata.errors import SourceError
from heartdata.schemas import RECORDINGS
from heartdata.seen import Seen, marks, sha256_of
from heartdata.sources.base import Source, SourceRecording
from heartdata.store import table_from_rows

BATCHES = 200  # that threads take: handing over each recording would cost more than looking whether a file is known


def take_inventory(
    source: Source,
    workdir: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    seen: Seen | None = None,
) -> tuple[pa.Table, list[str]]:
    """All recordings of ``source`` (schema RECORDINGS, sorted by id) and the source's remarks.

    Files are hashed in threads, those that ``seen`` knows unchanged not at all; ``progress(done, total)`` is called now
    and then. Raises `SourceError` when there
    is nothing at all or two recordings have one id, OSError when reading fails in a way that may pass.
    """
    listing = source.listing(workdir)
    listed = sorted(listing.recordings, key=lambda r: r.recording_id)
    if not listed:
        raise SourceError(f"the source {source.name} names no recordings: is the folder empty?")
    twice = sorted(
        {a.recording_id for a, b in zip(listed, listed[1:], strict=False) if a.recording_id == b.recording_id}
    )
    if twice:
        raise SourceError(f"two recordings are called {twice[0]!r}: ids must be unique")
    rows = []
    batches = [listed[start::BATCHES] for start in range(min(BATCHES, len(listed)))]
    with ThreadPoolExecutor() as pool:
        for batch in pool.map(lambda some: [_row(r.source or source.name, r, seen) for r in some], batches):
            rows += batch
            progress(len(rows), len(listed))
    rows.sort(key=lambda row: str(row["recording_id"]))
    return table_from_rows(rows, RECORDINGS), list(listing.notes)


def _row(source: str, listed: SourceRecording, seen: Seen | None) -> dict[str, object]:
    missing, sha256, size = listed.missing, None, None
    if listed.path is not None:
        try:
            sha256, size = seen.sha256(listed.path) if seen else _hashed(listed.path)
        except (FileNotFoundError, PermissionError) as error:  # other faults of reading may pass: they are raised
            missing = f"{listed.path} cannot be read ({error.strerror})"
    return {
        "recording_id": listed.recording_id,
        "uri": str(listed.path) if listed.path else None,
        "sha256": sha256,
        "size_bytes": size,
        "source": source,
        "collection": listed.collection,
        "subject": listed.subject,
        "site": listed.site,
        "label": listed.label,
        "missing": missing,
        "extra": json.dumps(listed.extra, sort_keys=True, ensure_ascii=False),
    }


def _hashed(file: Path | str) -> tuple[str, int]:
    return sha256_of(file), marks(file)["size_bytes"]
