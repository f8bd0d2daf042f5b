"""Synthetic heart sounds with planted faults: the default source."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import soundfile
from joblib import cpu_count
from pydantic import Field, model_validator

from heartdata import versions
from heartdata.audio.synthesis import (
    CLASSES,
    EXTRA_SOUND,
    RATE_HZ,
    Heart,
    simulate_device,
    synthesize,
    with_random_variation,
)
from heartdata.errors import StoreError
from heartdata.processes import why_no_processes
from heartdata.sources.base import SourceListing, SourceRecording, SourceSettings

SITES = ("AV", "PV", "TV", "MV")
MANY_SUBJECTS = 200  # from so many on, worker processes save more time than they take to start


class DemoSource(SourceSettings):
    """Settings of the synthetic recordings: the same values make the same bytes."""

    # No download for a first try, and models of synthetic recordings are kept apart from those of real ones.
    preset: ClassVar[dict[str, Any]] = {"training": {"init": "random"}, "registry": {"model_name": "heartbeat-demo"}}

    name: Literal["demo"] = "demo"
    seed: int = Field(default=0, ge=0, description="random seed; another one makes other recordings")
    subjects_per_class: int = Field(default=10, ge=3, le=10_000, description="how many subjects each class has")
    sites: int = Field(default=3, ge=1, le=4, description="how many recordings each subject has, one per site")
    duration_s: tuple[float, float] = Field(default=(5.0, 8.0), description="the shortest and the longest recording")
    plant_faults: bool = Field(default=True, description="add recordings with faults, which the checks should find")
    varied: bool = Field(
        default=False,
        description="for pretraining: another device and noise for each recording, more kinds of murmur, S3 and S4",
    )

    @model_validator(mode="after")
    def _check_durations(self) -> "DemoSource":
        if not 1.5 <= self.duration_s[0] <= self.duration_s[1] <= 120:
            raise ValueError("duration_s must be two lengths of 1.5 to 120 s, the shorter first")
        return self

    def check(self) -> None:
        """There is nothing to check, as `listing` makes the recordings."""

    def listing(self, workdir: Path) -> SourceListing:
        """Make the recordings below ``workdir`` unless they exist, and list them."""
        folder = self.make(workdir)
        table = pd.read_csv(folder / "recordings.csv", keep_default_na=False)
        rows = [
            SourceRecording(
                recording_id=row["path"],
                path=folder / row["path"],
                label=row["label"],
                subject=row["subject"],
                site=row["site"],
                collection="made",
                extra={"planted": row["planted"]} if row["planted"] else {},
            )
            for row in table.to_dict("records")
        ]
        return SourceListing(
            rows, ["The sounds are synthetic: scores on them prove that the pipeline works, nothing more."]
        )

    def make(self, workdir: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Path:
        """The folder below ``workdir`` with the recordings, which are made unless they exist.

        ``progress`` gets how many subjects are done, and of how many.
        """
        folder = workdir / f"demo-{versions.DEMO}-{self.digest()[:12]}"
        if not folder.is_dir():
            self._write(folder, progress)
        return folder

    def _write(self, folder: Path, progress: Callable[[int, int], None]) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".demo-"))
        kinds = (*CLASSES, EXTRA_SOUND) if self.varied else CLASSES
        subjects = [(number, i) for number in range(len(kinds)) for i in range(self.subjects_per_class)]
        make = partial(self._make_subject, unfinished, kinds)
        made = []
        with ExitStack() as stack:
            parts: Iterator[Any] = map(make, subjects)
            if len(subjects) > MANY_SUBJECTS and not why_no_processes():
                pool = ProcessPoolExecutor(cpu_count(), mp_context=get_context("spawn"))
                parts = stack.enter_context(pool).map(make, subjects, chunksize=10)
            for part in parts:
                made.append(part)
                progress(len(made), len(subjects))
        rows = [row for part, _ in made for row in part]
        beats = {path: times for _, part in made for path, times in part.items()}
        if self.plant_faults:
            rows += plant_faults(unfinished, np.random.default_rng([self.seed, 99]))
        pd.DataFrame(rows).to_csv(unfinished / "recordings.csv", index=False)
        (unfinished / "beats.json").write_text(json.dumps(beats))
        try:
            unfinished.rename(folder)
        except OSError as error:  # usually because another run has made the same recordings
            shutil.rmtree(unfinished)
            if not folder.is_dir():
                raise StoreError(
                    f"cannot make the demo recordings in {folder} ({error}): make it writable, or choose another store with --store"
                ) from error

    def _make_subject(
        self, folder: Path, kinds: tuple[str, ...], subject: tuple[int, int]
    ) -> tuple[list[dict[str, str]], dict[str, dict[str, list[float]]]]:
        """Write the recordings of one subject (numbers of class and subject); returns their rows and beat times."""
        kind = kinds[subject[0]]
        name = f"{'S' if kind == EXTRA_SOUND else kind[0].upper()}{subject[1]:03d}"
        rng = np.random.default_rng([self.seed, *subject])
        heart = Heart.draw(kind, rng)
        heart = with_random_variation(heart, rng) if self.varied else heart
        rows, beats = [], {}
        for site in range(self.sites):
            sound = synthesize(heart, rng.uniform(*self.duration_s), site, rng)
            samples = simulate_device(sound.samples, kind != "artifact", rng) if self.varied else sound.samples
            path = f"{name}_{SITES[site]}.wav"
            soundfile.write(folder / path, samples, RATE_HZ, subtype="PCM_16")
            rows.append({"path": path, "label": kind, "subject": name, "site": SITES[site], "planted": ""})
            beats[path] = {"s1_s": sound.s1_s.round(4).tolist(), "s2_s": sound.s2_s.round(4).tolist()}
        return rows, beats


def plant_faults(folder: Path, rng: np.random.Generator) -> list[dict[str, str]]:
    """Write recordings with faults into ``folder``; returns their rows, where ``planted`` names the fault."""

    def fresh(kind: str) -> np.ndarray:
        return synthesize(Heart.draw(kind, rng), 6.0, 0, rng).samples

    def write(name: str, samples: np.ndarray) -> None:
        soundfile.write(folder / name, samples, RATE_HZ, subtype="PCM_16")

    write("fault_silent.wav", np.zeros(6 * RATE_HZ, np.float32))
    write("fault_clipped.wav", np.clip(60 * fresh("normal"), -1, 1))
    write("fault_truncated.wav", fresh("normal"))
    whole = (folder / "fault_truncated.wav").read_bytes()
    (folder / "fault_truncated.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "fault_undecodable.wav").write_bytes(rng.bytes(20_000))
    write("fault_copy_1.wav", fresh("normal"))
    shutil.copyfile(folder / "fault_copy_1.wav", folder / "fault_copy_2.wav")
    write("fault_conflict_1.wav", fresh("murmur"))
    shutil.copyfile(folder / "fault_conflict_1.wav", folder / "fault_conflict_2.wav")
    planted = [
        ("fault_silent", "normal", "X001", "silent"),
        ("fault_clipped", "normal", "X002", "clipped"),
        ("fault_truncated", "normal", "X003", "truncated"),
        ("fault_undecodable", "normal", "X004", "undecodable"),
        ("fault_copy_1", "normal", "X005", ""),
        ("fault_copy_2", "normal", "X005", "duplicate"),
        ("fault_conflict_1", "murmur", "X006", "label_conflict"),
        ("fault_conflict_2", "normal", "X006", "label_conflict"),
    ]
    return [
        {"path": f"{name}.wav", "label": label, "subject": subject, "site": "AV", "planted": fault}
        for name, label, subject, fault in planted
    ]
