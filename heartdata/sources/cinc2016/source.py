"""The PhysioNet/CinC Challenge 2016: databases training-a to training-f, validation, and others of the same layout.

A database is a folder of ``.wav`` and ``.hea`` files with ``REFERENCE.csv`` (name, 1 abnormal or -1 normal) and, most
often, the signal quality (1 good, 0 poor) in ``REFERENCE-SQI.csv``.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from heartdata.errors import SourceError
from heartdata.sources.archives import ArchiveSource
from heartdata.sources.base import SourceListing, SourceRecording, other_than_wav, wav_files
from heartdata.sources.cinc2016.databases import find_databases, home_databases, official_name, unread_folders
from heartdata.sources.cinc2016.labels import LABELS, REFERENCE, has_labels, header_comment, read_labels
from heartdata.sources.cinc2016.subjects import (
    ANNOTATIONS,
    APPENDIX_NAME,
    IDENTIFIED,
    annotation_folders,
    appendices,
    read_subjects,
)

WHAT = "folder (or zip) of the challenge"


class Cinc2016Source(ArchiveSource):
    """Settings: ``data`` holds some of the databases, or is one of them, or a zip of them."""

    preset: ClassVar[dict[str, Any]] = {"training": {"epochs": 20}}

    name: Literal["cinc2016"] = "cinc2016"
    databases: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="the databases to read, such as [training-a, validation]; null: all"
    )

    def check(self) -> None:
        """Raise `SourceError` when a database, or the table of one, does not exist."""
        with self.browsed(WHAT) as folder:
            self._chosen(folder)

    def listing(self, workdir: Path) -> SourceListing:
        """Every row of each REFERENCE.csv, also without a file, and the recordings that are in no row."""
        rows: list[SourceRecording] = []
        notes: list[str] = []
        left_out: list[str] = []
        root = self.unpacked(WHAT, workdir)
        chosen = self._chosen(root)
        for database, folder in chosen.items():
            recordings, more = _read_database(database, folder, annotation_folders(folder, root))
            rows += recordings
            notes += more
            left_out += other_than_wav(folder)
        if self.databases is None and (unread := unread_folders(root, list(chosen.values()))):
            notes.append(
                f"The recordings in {', '.join(map(str, unread))} are not read: a database is a folder with a {REFERENCE} of "
                "its own, at most two levels below --data. Put one there, or move them elsewhere"
            )
        if unknown := sum(row.subject is None for row in rows):
            notes.append(
                f"The subjects of {unknown} of {len(rows)} recordings are not known, so each counts as a subject of "
                f"its own: if somebody was recorded twice, scores are too high{self._remedy(root, chosen, rows)}"
            )
        return SourceListing(rows, [*notes, *left_out])

    def _remedy(self, root: Path, chosen: dict[str, Path], rows: list[SourceRecording]) -> str:
        """Which table would identify subjects that are unknown, where it is absent; nothing if none does."""
        unknown = {row.collection for row in rows if row.subject is None}
        identified = [name for name in IDENTIFIED if name in unknown]
        if not identified or any(appendices(annotation_folders(folder, root)) for folder in chosen.values()):
            return ""
        return (
            f". {ANNOTATIONS}/{APPENDIX_NAME} of the challenge identifies those of {', '.join(identified)}: put that folder "
            "beside the databases (heartbeat data fetch cinc2016 brings it)"
        )

    def _chosen(self, folder: Path) -> dict[str, Path]:
        """Name to folder of the chosen databases; raises `SourceError`."""
        data = self.existing(WHAT)
        databases = find_databases(folder, data.name if data.is_dir() else data.stem)
        chosen = [official_name(name) or name for name in self.databases or databases]
        for name in chosen:
            if name not in databases:
                raise SourceError(
                    f"{folder} has no {name}, which source.databases names: download it, or choose among {', '.join(databases)}"
                )
            if not has_labels(databases[name]):
                raise SourceError(f"{databases[name]} holds no {REFERENCE}: complete the download of {name}")
        return {name: databases[name] for name in chosen}


def _read_database(database: str, folder: Path, annotations: list[Path]) -> tuple[list[SourceRecording], list[str]]:
    """The recordings of one database and notes on them."""
    updated = [beside / "updated" / name for beside in annotations for name in dict.fromkeys((folder.name, database))]
    labels, notes = read_labels([folder, *updated])
    files = wav_files(folder)
    unlisted = sorted(files.keys() - labels.keys())
    homes = home_databases(database, [*labels, *unlisted])
    subjects: dict[str, str] = {}
    for home in sorted(set(homes.values()) - {"validation"}):
        known, more = read_subjects(annotations, home, [name for name in homes if homes[name] == home])
        subjects |= known
        notes += more
    if several := sorted(set(homes.values()) - {database}):
        notes.append(
            f"{folder} holds recordings of {', '.join(several)}: each is in the collection of the letter of its name"
        )
    rows, contradicted = [], []
    for name, home in homes.items():
        extra = {key: value for key, value in labels.get(name, {}).items() if value}
        label = LABELS[extra.get("challenge_label", "")]
        comment = header_comment(folder / f"{name}.hea")
        if comment and comment.casefold() != label:
            extra["comment"] = comment
        if label and {comment.casefold(), label} == {"normal", "abnormal"}:
            contradicted.append(name)
        rows.append(
            SourceRecording(
                recording_id=f"{database}/{name}.wav",
                path=files.get(name),
                label=label,
                subject=subjects.get(name),
                collection=home,
                missing=None if name in files else f"there is no file {folder / name}.wav",
                extra=extra,
            )
        )
    if unlisted:
        notes.append(
            f"{len(unlisted)} recordings in {database} are in no row of its {REFERENCE}; kept as unlabelled: "
            f"{unlisted[0]}.wav, ..."
        )
    if contradicted:
        notes.append(
            f"The .hea files of {len(contradicted)} recordings in {database} contradict {REFERENCE}, which takes precedence: "
            f"{contradicted[0]}, ..."
        )
    return rows, notes
