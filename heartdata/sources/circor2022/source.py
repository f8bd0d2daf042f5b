"""The CirCor DigiScope data set 1.0.3 (PhysioNet Challenge 2022): children, several recordings each.

``training_data.csv`` has one row per patient; ``training_data/`` has, per patient, ``<patient>.txt`` with much the same
facts and, per recording, ``<patient>_<site>[_n].wav``, ``.hea`` and ``.tsv`` (start, end, state: 0 not segmented, 1 S1,
2 systole, 3 S2, 4 diastole).
"""

import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from heartdata.errors import SourceError
from heartdata.sources.archives import ArchiveSource, locate
from heartdata.sources.base import SourceListing, SourceRecording, other_than_wav, wav_files
from heartdata.sources.circor2022.patients import (
    TABLE,
    Patient,
    any_patient_has,
    names_of_texts,
    read_patients,
)
from heartdata.sources.text import quoted

WHAT = "folder (or zip) with training_data/ in it"
FOLDER = "training_data"
LABELS = {"murmur": ("Present", "Unknown", "Absent"), "outcome": ("Abnormal", "Normal")}
EXTRA = {
    "age_group": "Age", "sex": "Sex", "murmur": "Murmur", "outcome": "Outcome",
    "murmur_locations": "Murmur locations", "campaign": "Campaign",
}  # fmt: skip
SITES = ("AV", "PV", "TV", "MV", "Phc")
_NAME = re.compile(r"(?P<patient>\d+)(?:_(?P<site>[A-Za-z]+)(?:_\d+)?$)?")


class Circor2022Source(ArchiveSource):
    """Settings: ``data`` holds training_data/ and, most often, training_data.csv, or is the zip of them."""

    preset: ClassVar[dict[str, Any]] = {"training": {"epochs": 20}}

    name: Literal["circor2022"] = "circor2022"
    target: Literal["murmur", "outcome"] = Field(
        default="murmur", description="the label: murmur (Present, Unknown, Absent) or outcome (Abnormal, Normal)"
    )

    def check(self) -> None:
        """Raise `SourceError` when the folder, a column of the table, all labels, or the table and the .txt are absent."""
        with self.browsed(WHAT) as folder:
            self._root(folder)

    def listing(self, workdir: Path) -> SourceListing:
        """Every recording that a file or a patient's table names; those without a file are listed as missing."""
        root = self._root(self.unpacked(WHAT, workdir))
        patients, notes = read_patients(root / TABLE, root / FOLDER)
        files = wav_files(root / FOLDER)
        present: dict[str, list[str]] = defaultdict(list)  # by patient
        for name in files:
            present[name.partition("_")[0]].append(name)
        expected = {name for patient in patients.values() for name in patient.expected(present[patient.name])}
        rows, unknown, other_sites, unsegmented = [], [], [], []
        for name in sorted(files.keys() | expected):
            match = _NAME.match(name)
            number, site = (match["patient"], match["site"]) if match else ("", None)
            patient = patients.get(number)
            if patient is None:
                unknown.append(name)
            if site not in SITES and (site or patient):
                other_sites.append(name)
            segmented = _segments(root, name)
            if segmented is None and name in files:
                unsegmented.append(name)
            rows.append(
                SourceRecording(
                    recording_id=f"{FOLDER}/{name}.wav",
                    path=files.get(name),
                    label=self._label(root, patient) if patient else None,
                    subject=patient.subject if patient else number if site else None,
                    site=site,
                    collection=FOLDER,
                    missing=None if name in files else f"there is no file {root / FOLDER / name}.wav",
                    extra=_extra(patient) | (segmented or {}),
                )
            )
        notes += _notes(unknown, other_sites, unsegmented) + other_than_wav(root / FOLDER)
        return SourceListing(rows, notes)

    def _root(self, folder: Path) -> Path:
        """The folder that holds training_data/ and, where it exists, the table; raises `SourceError`."""
        root = locate(folder, lambda f: (f / TABLE).exists() or bool(names_of_texts(f / FOLDER)))
        if not (root / FOLDER).exists():
            above = f", that is {root.parent}" if root.name == FOLDER else ""
            raise SourceError(f"{root / FOLDER} does not exist: --data must be the {WHAT}{above}")
        if not (root / TABLE).exists() and not names_of_texts(root / FOLDER):
            raise SourceError(
                f"neither {root / TABLE} nor any patient's <number>.txt in {root / FOLDER} exists, so the labels are unknown: "
                "complete the download"
            )
        if not any_patient_has(column := self.target.capitalize(), root / TABLE, root / FOLDER):
            (other,) = LABELS.keys() - {self.target}
            raise SourceError(
                f"no patient has an entry in the column {column} of {root / TABLE} or a line #{column}: in a .txt, so all "
                f"recordings would be unlabelled: download version 1.0.3 of the data set, or set source.target={other}"
            )
        return root

    def _label(self, root: Path, patient: Patient) -> str | None:
        """The label, spelled as the data set spells it; raises `SourceError` for a word that it does not use."""
        column = self.target.capitalize()
        value = patient.facts.get(column)
        if value is None:
            return None
        for label in LABELS[self.target]:
            if value.casefold() == label.casefold():
                return label
        file = root / TABLE if column in patient.from_table else root / FOLDER / f"{patient.name}.txt"
        raise SourceError(
            f"{file}: patient {patient.name} has the {self.target} {quoted(value)}, which is none of "
            f"{', '.join(LABELS[self.target])}: correct it"
        )


def _extra(patient: Patient | None) -> dict[str, Any]:
    """The patient's facts, and the patient's own id where the subject has another."""
    if patient is None:
        return {}
    known = {key: patient.facts[column] for key, column in EXTRA.items() if column in patient.facts}
    return known | ({"patient": patient.name} if patient.subject != patient.name else {})


def _segments(root: Path, name: str) -> dict[str, Any] | None:
    """The path of the segmentation, relative to ``root``, and the seconds in states 1 to 4; None if it is unreadable."""
    path = root / FOLDER / f"{name}.tsv"
    try:
        rows = [[float(cell) for cell in line.split()] for line in path.read_text(encoding="utf-8").splitlines()]
        seconds = sum(end - start for start, end, state in filter(None, rows) if state != 0)
    except (FileNotFoundError, ValueError):
        return None
    if not math.isfinite(seconds):
        return None
    return {"segmentation": path.relative_to(root).as_posix(), "segmented_s": round(seconds, 3)}


def _notes(unknown: list[str], other_sites: list[str], unsegmented: list[str]) -> list[str]:
    notes = []
    if unknown:
        notes.append(
            f"{len(unknown)} recordings in {FOLDER}/ belong to no patient who has a row in {TABLE} or a .txt; kept as "
            f"unlabelled: {unknown[0]}.wav, ..."
        )
    if other_sites:
        names = ", ".join(f"{name}.wav" for name in other_sites[:5])
        notes.append(
            f"{len(other_sites)} recordings in {FOLDER}/ name no site, or another than {', '.join(SITES)}; check their names: "
            f"{names}{', ...' if len(other_sites) > 5 else ''}"
        )
    if unsegmented:
        notes.append(f"{len(unsegmented)} recordings have no readable segmentation (.tsv): {unsegmented[0]}, ...")
    return notes
