"""Made heart sounds with planted faults: what `make run` uses when nobody brings recordings."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import soundfile
from pydantic import Field, model_validator

from heartdata.errors import StoreError
from heartdata.settings import Settings
from heartdata.sources.base import Listed, Listing
from heartdata.synth import CLASSES, RATE_HZ, Heart, make_sound

SITES = ("AV", "PV", "TV", "MV")
VERSION = "1"  # raise when the sounds change


class DemoSource(Settings):
    """Configuration of the made set. The same values make the same bytes."""

    # No download for a first look, and no model of made sounds among those of real ones.
    preset: ClassVar[dict[str, Any]] = {"training": {"init": "random"}, "registry": {"model_name": "heartbeat-demo"}}

    name: Literal["demo"] = "demo"
    seed: int = Field(default=0, ge=0)
    subjects_per_class: int = Field(default=10, ge=3, le=1000)
    sites: int = Field(default=3, ge=1, le=4)
    duration_s: tuple[float, float] = Field(default=(5.0, 8.0), description="shortest and longest")
    plant_faults: bool = True

    @model_validator(mode="after")
    def _possible(self) -> "DemoSource":
        if not 1.5 <= self.duration_s[0] <= self.duration_s[1] <= 120:
            raise ValueError("duration_s must be two lengths of 1.5 to 120 s, the shorter first")
        return self

    def check(self) -> None:
        """Nothing can be missing."""

    def listing(self, workdir: Path) -> Listing:
        """Make the set below ``workdir`` unless it is there, and list it."""
        folder = workdir / f"demo-{VERSION}-{self.digest()[:12]}"
        if not folder.is_dir():
            self._make(folder)
        table = pd.read_csv(folder / "recordings.csv", keep_default_na=False)
        rows = [
            Listed(
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
        return Listing(
            rows,
            ["The sounds are made: scores on them prove that the pipeline works, nothing more."],
        )

    def _make(self, folder: Path) -> None:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".demo-"))
        rows, beats = [], {}
        for class_number, kind in enumerate(CLASSES):
            for subject_number in range(self.subjects_per_class):
                subject = f"{kind[0].upper()}{subject_number:03d}"
                rng = np.random.default_rng([self.seed, class_number, subject_number])
                heart = Heart.draw(kind, rng)
                for site in range(self.sites):
                    sound = make_sound(heart, rng.uniform(*self.duration_s), site, rng)
                    path = f"{subject}_{SITES[site]}.wav"
                    soundfile.write(unfinished / path, sound.samples, RATE_HZ, subtype="PCM_16")
                    rows.append(
                        {
                            "path": path,
                            "label": kind,
                            "subject": subject,
                            "site": SITES[site],
                            "planted": "",
                        }
                    )
                    beats[path] = {
                        "s1_s": sound.s1_s.round(4).tolist(),
                        "s2_s": sound.s2_s.round(4).tolist(),
                    }
        if self.plant_faults:
            rows += plant_faults(unfinished, np.random.default_rng([self.seed, 99]))
        pd.DataFrame(rows).to_csv(unfinished / "recordings.csv", index=False)
        (unfinished / "beats.json").write_text(json.dumps(beats))
        try:
            unfinished.rename(folder)
        except OSError as error:  # another run made the same set meanwhile
            shutil.rmtree(unfinished)
            if not folder.is_dir():
                raise StoreError(f"cannot make the demo recordings in {folder}: {error}") from error


def plant_faults(folder: Path, rng: np.random.Generator) -> list[dict[str, str]]:
    """Write the faulty recordings into ``folder``; returns their rows, ``planted`` naming the fault of each."""

    def fresh(kind: str) -> np.ndarray:
        return make_sound(Heart.draw(kind, rng), 6.0, 0, rng).samples

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
        {
            "path": f"{name}.wav",
            "label": label,
            "subject": subject,
            "site": "AV",
            "planted": fault,
        }
        for name, label, subject, fault in planted
    ]
