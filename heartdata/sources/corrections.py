"""Labels that people corrected after listening, laid over what a source lists (`source.corrections`)."""

import codecs
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from heartdata.errors import SourceError
from heartdata.sources.base import Source, SourceListing, SourceRecording
from heartdata.sources.labels import LABEL_IN_SOURCE
from heartdata.sources.table.columns import USUAL_NAMES, Columns, normal_name
from heartdata.sources.table.readers import UTF_8, read_table
from heartdata.sources.text import clean_cell, enumerated, quoted, same_text, visible
from heartdata.storage.csv_text import unescaped
from heartdata.storage.hash_cache import sha256_of

EXCLUDE = "exclude"  # in place of a label: the recording is quarantined
COLUMNS = {  # by what they hold, the names that are accepted, as `normal_name` writes them
    "recording": ("recording", "recordingid", *USUAL_NAMES["path"]),
    "label": ("newlabel", "label"),
    "who": ("who",),
    "why": ("why",),
    "sha256": ("sha256",),
}
MOST = 5  # names in a message


@dataclass(frozen=True)
class Correction:
    """One row of the table, the header being row 1: a recording and its ``label``, or EXCLUDE.

    ``sha256``: of the content that was listened to, or empty.
    """

    row: int
    recording: str
    label: str
    who: str
    why: str
    sha256: str

    @property
    def reason(self) -> str:
        """By whom, and why."""
        return ": ".join(filter(None, (f"by {self.who}" if self.who else "", self.why)))

    def __str__(self) -> str:
        return f"{self.label} (row {self.row}{', by ' + self.who if self.who else ''})"


def corrected_listing(source: Source, workdir: Path) -> SourceListing:
    """What ``source`` lists, with its corrections laid over; raises `SourceError`.

    A corrected recording keeps its own label in ``extra``; one of label EXCLUDE becomes ``excluded``.
    """
    listing, table = source.listing(workdir), source.corrections
    if table is None:
        return listing
    rows = read_corrections(table)
    reviewed = [row for row in rows if row.label]
    corrections = _by_recording(table, reviewed, listing.recordings)
    labels = _spelled(table, reviewed, (row.label for row in listing.recordings))
    counts: Counter[str] = Counter(row_without_label=len(rows) - len(reviewed))
    stale: list[str] = []
    recordings = []
    for recording in listing.recordings:
        correction = corrections.get(recording.recording_id)
        if correction and _is_stale(correction, recording):
            stale.append(recording.recording_id)
        elif correction:
            kind, recording = _corrected(recording, correction, labels[correction.label])
            counts[kind] += 1
        recordings.append(recording)
    return SourceListing(recordings, [*listing.notes, *_notes(table, counts, stale)])


def read_corrections(table: Path) -> list[Correction]:
    """The rows of a CSV, Excel, JSON or Parquet file; text that is not UTF-8 is read as Windows-1252. Raises `SourceError`."""
    try:
        content = table.read_bytes()
    except OSError as error:
        raise SourceError(f"{table} cannot be read ({error.strerror}): correct source.corrections") from error
    is_text = table.suffix.lower() in (".csv", ".tsv", ".txt") and not content.startswith(
        (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    )
    encoding = "cp1252" if is_text and not _is_utf_8(content) else UTF_8
    frame, _ = read_table(table, Columns(), None, {"path"}, encoding)
    present = {normal_name(name): name for name in reversed(list(frame.columns))}
    found = {role: next((present[n] for n in names if n in present), None) for role, names in COLUMNS.items()}
    for role, remedy in (("recording", "recording"), ("label", "new_label")):
        if found[role] is None:
            raise SourceError(
                f"{table} has no column {remedy}: name the columns recording, new_label, who and why (its columns are "
                f"{enumerated(list(map(quoted, frame.columns))) or 'none'})"
            )
    cells = {role: list(frame[name]) if name else [""] * len(frame) for role, name in found.items()}
    columns = zip(*(cells[role] for role in COLUMNS), strict=True)
    return [Correction(row, *(clean_cell(unescaped(text)) for text in texts)) for row, texts in enumerate(columns, 2)]


def _is_utf_8(content: bytes) -> bool:
    try:
        content.decode(UTF_8)
    except UnicodeDecodeError:
        return False
    return True


def _by_recording(
    table: Path, rows: Sequence[Correction], recordings: Sequence[SourceRecording]
) -> dict[str, Correction]:
    """The correction of each recording by its id; raises `SourceError` for unknown ids and contradictions."""
    ids = {_same_id(r.recording_id): r.recording_id for r in recordings}
    if unknown := [row for row in rows if _same_id(row.recording) not in ids]:
        listed = [_with_hint(row.recording, row.row, list(ids)) for row in unknown[:MOST]]
        more = f" and {len(unknown) - MOST} more" if len(unknown) > MOST else ""
        raise SourceError(
            f"{table} corrects {len(unknown)} recordings that the source does not list: {', '.join(listed)}{more}; correct "
            "the names or remove the rows"
        )
    first: dict[str, Correction] = {}
    for row in rows:
        earlier = first.setdefault(ids[_same_id(row.recording)], row)
        if same_text(earlier.label) != same_text(row.label):
            raise SourceError(
                f"{table} corrects {quoted(row.recording)} twice, to {earlier} and to {row}: remove one of the rows"
            )
    return first


def _spelled(table: Path, rows: Sequence[Correction], labels: Iterable[str | None]) -> dict[str, str]:
    """Each new label as the source spells it; raises `SourceError` for one that no recording of the source has."""
    classes = {same_text(EXCLUDE): EXCLUDE} | {same_text(label): label for label in labels if label}
    if unknown := {row.label: row for row in rows if same_text(row.label) not in classes}:
        listed = [_with_hint(label, row.row, list(classes.values())) for label, row in unknown.items()]
        raise SourceError(
            f"{table} gives labels that no recording of the source has: {enumerated(listed, MOST)}; choose among "
            f"{enumerated(sorted(classes.values()))} (a new class begins with labels in the source itself)"
        )
    return {row.label: classes[same_text(row.label)] for row in rows}


def _same_id(recording_id: str) -> str:
    """What the spellings of an id in spreadsheets have in common."""
    return clean_cell(visible(recording_id).replace("\\", "/"))


def _with_hint(text: str, row: int, known: list[str]) -> str:
    close = get_close_matches(text, known, n=1)
    return f"{quoted(text)} (row {row}{f', perhaps {quoted(close[0])}' if close else ''})"


def _is_stale(correction: Correction, recording: SourceRecording) -> bool:
    """Whether the file's content is another one than that which was listened to."""
    if not correction.sha256 or recording.path is None:
        return False
    try:
        return sha256_of(recording.path) != correction.sha256.lower()
    except OSError:  # the inventory says why it cannot be read
        return False


def _corrected(recording: SourceRecording, correction: Correction, label: str) -> tuple[str, SourceRecording]:
    """What the correction does, and the recording with it."""
    if label == EXCLUDE:
        return "excluded", replace(recording, excluded=f"excluded {correction.reason}".strip())
    if label == recording.label:
        return "confirmed", recording
    extra = {LABEL_IN_SOURCE: recording.label, **recording.extra, "corrected": correction.reason}
    return "changed", replace(recording, label=label, extra=extra)


def _notes(table: Path, counts: Counter[str], stale: list[str]) -> Iterator[str]:
    changed = counts["changed"]
    words = {
        "changed": "label changed" if changed == 1 else "labels changed",
        "excluded": "excluded",
        "confirmed": "as before",
    }
    parts = [f"{counts[kind]} {word}" for kind, word in words.items() if counts[kind]]
    total = sum(counts[kind] for kind in words)
    open_rows = counts["row_without_label"]
    more = f"; {open_rows} without a new label change nothing" if open_rows else ""
    yield f"{total} correction{'s' * (total != 1)}: {', '.join(parts) or 'none apply'} ({table.name}){more}"
    if stale:
        yield (
            f"{len(stale)} corrections in {table.name} are of another content than the files have (sha256) and were not "
            f"applied, review them again: {enumerated(stale, MOST)}"
        )
