"""The PASCAL Classifying Heart Sounds Challenge 2011: set_a (phone app) and set_b (digital stethoscope).

Kaggle's tables and files have different names; `file_key` brings both to one form, and every row must then join to
exactly one file. The challenge's own archives have no tables: their folder names are the labels.
"""

import re
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
from pydantic import Field

from heartdata.errors import SourceError
from heartdata.sources.archives import ArchiveSource, locate
from heartdata.sources.base import SourceListing, SourceRecording, audio_files, find_files

WHAT = "folder (or zip) with set_a.csv and set_b.csv"

# The folders of the challenge's own archives. Those of noisy recordings may be inside the ones without that word.
FOLDERS = {
    "set_a": ("Atraining_normal", "Atraining_murmur", "Atraining_extrahls", "Atraining_artifact", "Aunlabelledtest"),
    "set_b": (
        "Btraining_normal", "Btraining_noisynormal", "Btraining_murmur", "Btraining_noisymurmur", "Btraining_extrastole",
        "Bunlabelledtest",
    ),
}  # fmt: skip

_SET_B_NAME = re.compile(r"(?:^|_)(?P<subject>\d+)_(?P<epoch_ms>\d{13})_(?P<site>[A-Z])_?(?P<repeat>\d*)$")


class PascalSource(ArchiveSource):
    """Settings: ``data`` is the folder (or zip) that holds set_a.csv, set_b.csv, set_a/ and set_b/, or the challenge's own
    folders (Atraining_normal/ and so on).
    """

    # Some labels identify the device (extrahls and artifact: phones, extrastole: stethoscopes): train on one set only.
    preset: ClassVar[dict[str, Any]] = {"split": {"collections": ["set_b"]}, "training": {"epochs": 20}}

    name: Literal["pascal"] = "pascal"
    sets: tuple[Literal["set_a", "set_b"], ...] = Field(
        default=("set_a", "set_b"), description="the sets to read; split.collections chooses those to train on"
    )

    def check(self) -> None:
        """Raise `SourceError` when one of the chosen sets' tables or folders does not exist."""
        with self.browsed(WHAT) as folder:
            root = self._root(folder)
            for name in self.sets:
                if not _labelled_folders(root, name):
                    _parts_of(root, name)

    def listing(self, workdir: Path) -> SourceListing:
        """The chosen sets, unlabelled recordings included; raises `SourceError` for rows that join to no single file."""
        root = self._root(self.unpacked(WHAT, workdir))
        rows, notes = [], []
        for name in self.sets:
            recordings, unlisted = _read_set(root, name)
            rows += recordings
            unknown = [row.recording_id for row in recordings if row.subject is None]
            if unknown and name == "set_b":
                notes.append(
                    f"The names of {len(unknown)} of {len(recordings)} recordings in {name}/ name no subject, so each "
                    "counts as a subject of its own: if somebody was recorded twice, scores are too high. A name ends in "
                    f"SUBJECT_TIME_SITE, as in normal__103_1305031931979_B.wav; check {unknown[0]}, ..."
                )
            if unlisted:
                notes.append(
                    f"{len(unlisted)} files in {name}/ are in no row of {name}.csv; kept as unlabelled: {unlisted[0]}, ..."
                )
            for folder in [root / name] if (root / name).exists() else _present(root, name):
                notes += find_files(folder).left_out(companions=False)
        return SourceListing(rows, notes)

    def _root(self, folder: Path) -> Path:
        """``folder``, or the one folder inside it that holds the tables or the challenge's own folders."""
        return locate(folder, lambda f: any((f / f"{name}.csv").exists() or _present(f, name) for name in self.sets))


def file_key(name: str) -> str:
    """The form that a file's name on the disk and in the tables share: no prefixes, single underscores, no suffix."""
    stem = re.sub(r"\.wav$", "", Path(name).name, flags=re.IGNORECASE)
    stem = re.sub(r"Btraining_|Aunlabelledtest|Bunlabelledtest", "", stem)
    return re.sub(r"_+", "_", stem).strip("_")


def _parts_of(root: Path, name: str) -> tuple[Path, Path]:
    csv, folder = root / f"{name}.csv", root / name
    for needed in (csv, folder):
        if not needed.exists():
            above = f", that is {root.parent}" if root.name == name else ""
            raise SourceError(
                f"{needed} does not exist: --data must be the folder that holds {name}.csv and {name}/{above}"
            )
    return csv, folder


def _present(root: Path, name: str) -> list[Path]:
    """The folders of the challenge's own archives in ``root``."""
    return [root / folder for folder in FOLDERS[name] if (root / folder).is_dir()]


def _labelled_folders(root: Path, name: str) -> list[Path]:
    """The folders of `_present` if they hold the set; raises `SourceError` when the folder of a label is absent."""
    present = [] if (root / name).exists() else _present(root, name)
    names = [folder.name for folder in present]
    needed = [folder for folder in FOLDERS[name] if "training_" in folder and "noisy" not in folder]
    absent = [folder for folder in needed if folder not in names]
    if present and absent:
        (other,) = FOLDERS.keys() - {name}
        raise SourceError(
            f"{root} holds {names[0]}, but no {', '.join(absent)}: complete the download, or read the other set alone "
            f"with --set 'source.sets=[{other}]'"
        )
    return present


def _read_set(root: Path, name: str) -> tuple[list[SourceRecording], list[str]]:
    if folders := _labelled_folders(root, name):
        return [_named_by_folder(root, name, path) for folder in folders for path in audio_files(folder)], []
    csv, folder = _parts_of(root, name)
    files: dict[str, list[Path]] = {}
    for path in audio_files(folder):
        files.setdefault(file_key(path.name), []).append(path)
    try:
        table = pd.read_csv(csv, dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")
    except ValueError as error:  # not UTF-8, empty, or rows of other lengths
        raise SourceError(f"{csv} cannot be read as a table ({error}): download it again") from error
    if not {"fname", "label", "sublabel"} <= set(table.columns):
        raise SourceError(f"{csv} lacks the columns fname, label, sublabel: give the challenge's own table")
    rows, unjoined = [], []
    for row in table.to_dict("records"):
        paths = files.pop(file_key(row["fname"]), [])
        if len(paths) == 1:
            rows.append(_recording(root, name, paths[0], row))
        else:
            unjoined.append(f"{row['fname']} ({', '.join(path.name for path in paths) or 'no file'})")
    if unjoined:
        raise SourceError(
            f"{csv}: {len(unjoined)} of {len(table)} rows do not join to exactly one file, the first being "
            f"{'; '.join(unjoined[:5])}: complete the download of {name}/, or keep one file of each name"
        )
    rest = sorted(path for paths in files.values() for path in paths)
    rows += [_recording(root, name, path, {"label": "", "sublabel": ""}) for path in rest]
    return rows, [str(path.relative_to(root)) for path in rest]


def _named_by_folder(root: Path, name: str, path: Path) -> SourceRecording:
    """A recording of the challenge's own archives: the innermost of their folders is the label."""
    (*_, folder) = [part for part in path.relative_to(root).parts[:-1] if part in FOLDERS[name]]
    sublabel = folder.partition("training_")[2]
    return _recording(root, name, path, {"label": sublabel.removeprefix("noisy"), "sublabel": sublabel})


def _recording(root: Path, name: str, path: Path, row: dict[str, str]) -> SourceRecording:
    parts = _SET_B_NAME.search(file_key(path.name)) if name == "set_b" else None
    extra = {"noisy": "true"} if row["sublabel"].strip().lower().startswith("noisy") else {}
    if parts:
        extra |= {"epoch_ms": parts["epoch_ms"], "repeat": parts["repeat"]}
    return SourceRecording(
        recording_id=path.relative_to(root).as_posix(),
        path=path,
        label=row["label"].strip().lower() or None,
        subject=f"b{parts['subject']}" if parts else None,
        site=parts["site"] if parts else None,
        collection=name,
        extra=extra,
    )
