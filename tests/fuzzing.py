"""Fuzzing: thousands of damaged inputs, each of which must be read or refused in bounded time and memory.

    python tests/fuzzing.py --audio 5000 --tables 1000 --seed 0

Exits with 1 when an input raises another error than it should or its message does not name the file, dies with a stack
trace when one hangs, and has a memory limit. Prints how often each outcome occurred.
"""

import argparse
import faulthandler
import io
import itertools
import json
import resource
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parent))  # not there where PYTHONSAFEPATH is set
sys.path.insert(0, str(Path(__file__).parents[1]))  # before tests/heartdata

from helpers import write_xlsx

from heartdata.audio.decode import decode
from heartdata.audio.measurements import MeasureConfig, measure_audio
from heartdata.audio.spectrograms import SpectrogramConfig, log_mel
from heartdata.checks.suite import RecordingBounds
from heartdata.dataset.inventory import take_inventory
from heartdata.errors import BadAudio, SourceError
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.sources import SOURCES
from heartdata.storage.schemas import FACTS
from heartdata.storage.store import table_from_rows

HANG_S = 30
MEMORY_BYTES = 6 << 30
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
FORMATS = [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM"), ("FLAC", "PCM_16"),
           ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("AU", "ULAW")]  # fmt: skip
WAV_FIELDS = ((0, 2), (2, 2), (4, 4), (8, 4), (12, 2), (14, 2))  # of the chunk fmt: offset and size of each field
HEADER_BYTES = 48


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """``content`` with damage of one to three kinds, most of it near the start, where headers are."""
    for _ in range(rng.integers(1, 4)):
        data = bytearray(content or b"\0")
        damage(data, rng)
        content = bytes(data)
    return content


def damage(data: bytearray, rng: np.random.Generator) -> None:
    """Change ``data`` in one of seven ways."""

    def position() -> int:
        return int(rng.integers(min(len(data), 100 if rng.random() < 0.6 else len(data))))

    at, length = position(), int(rng.integers(1, 200))
    match rng.integers(7):
        case 0:  # flip bits
            for _ in range(rng.integers(1, 30)):
                data[position()] ^= 1 << int(rng.integers(8))
        case 1:  # an extreme number
            size = int(rng.choice([1, 2, 4]))
            number = EXTREMES[rng.integers(len(EXTREMES))] & (256**size - 1)
            data[at : at + size] = number.to_bytes(size, "little" if rng.random() < 0.7 else "big")
        case 2:  # cut
            del data[rng.integers(len(data) + 1) :]
        case 3:  # insert
            data[at:at] = rng.bytes(length)
        case 4:  # repeat
            data[at:at] = data[at : at + 200] * int(rng.integers(1, 20))
        case 5:  # drop
            del data[at : at + length]
        case 6:  # zeros
            data[at : at + 50] = bytes(len(data[at : at + 50]))


def with_number(content: bytes, at: int, size: int, number: int) -> bytes:
    """``content`` with a little-endian number in the place of ``size`` bytes."""
    return content[:at] + (number % 256**size).to_bytes(size, "little") + content[at + size :]


def damaged_headers(rng: np.random.Generator) -> Iterator[bytes]:
    """Recordings in every format with 0, the highest or a random number at each 2 or 4 bytes of the header."""
    for (form, _), content in zip(FORMATS, recordings(rng), strict=True):
        for size, at in itertools.product((2, 4), range(0, HEADER_BYTES, 2)):
            for number in (0, -1, int(rng.integers(256**size))):
                yield with_number(content, at, size, number)
        if form == "WAV":
            yield from damaged_wav_headers(content, rng)


def damaged_wav_headers(content: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """A wav file with other chunk sizes, and with 0 or the highest number in any combination of the fields of fmt.

    All combinations, as wrong numbers may be consistent: no channels and no bytes a second.
    """
    for chunk in (content.find(name) for name in (b"fmt ", b"fact", b"data") if name in content):
        for number in (*EXTREMES, len(content), len(content) - chunk, int(rng.integers(1 << 32))):
            yield with_number(content, chunk + 4, 4, number)
    start = content.index(b"fmt ") + 8
    for numbers in itertools.product((None, 0, -1), repeat=len(WAV_FIELDS)):
        changed = content
        for (at, size), number in zip(WAV_FIELDS, numbers, strict=True):
            if number is not None:
                changed = with_number(changed, start + at, size, number)
        yield changed


def recordings(rng: np.random.Generator) -> list[bytes]:
    """Half a second of noise in every format."""
    contents = []
    for channels, (form, subtype) in zip(itertools.cycle((1, 2)), FORMATS, strict=False):
        buffer = io.BytesIO()
        samples = rng.normal(0, 0.1, (8000, channels)).astype(np.float32)
        soundfile.write(buffer, samples, 16000, format=form, subtype=subtype)
        contents.append(buffer.getvalue())
    return contents


class TinyNet(nn.Module):
    """The smallest classifier: (n, 1, mel_bands, width) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(2))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.mean((1, 2, 3))[:, None] * self.weights


def fuzz_audio(contents: Iterable[bytes]) -> Counter[str]:
    """Each content becomes facts and a finite spectrogram, or `BadAudio`; and a finite prediction, or `BadAudio`."""
    outcomes: Counter[str] = Counter()
    config = ModelConfig(
        classes=("a", "b"), width=128, spectrogram=SpectrogramConfig(), dataset_version="", init="random",
        accepts=RecordingBounds(min_duration_s=0.1),
    )  # fmt: skip

    def measured() -> Iterator[bytes]:
        for content in contents:
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            try:
                audio = decode(content)
                row = measure_audio(audio, MeasureConfig())
                table_from_rows([{"sha256": "x", **row}], FACTS)
                if row["finite"]:
                    assert np.isfinite(log_mel(audio.mono, audio.rate_hz, SpectrogramConfig())).all()
                outcomes["read" if row["finite"] else "not finite"] += 1
            except BadAudio:
                outcomes["refused"] += 1
            yield content

    for prediction in Predictor(TinyNet(), config).predict(measured()):
        if not isinstance(prediction, BadAudio):
            assert np.isfinite(prediction.probabilities).all()
        outcomes["no prediction" if isinstance(prediction, BadAudio) else "prediction"] += 1
    return outcomes


def write_noise(folder: Path, names: Iterable[str], rng: np.random.Generator, rate_hz: int = 4000) -> None:
    for name in names:
        soundfile.write(folder / f"{name}.wav", rng.normal(0, 0.1, 4000), rate_hz)


def table_source(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    write_noise(folder, "abcd", rng)
    (folder / "table.csv").write_text(
        'path,label,subject,site\na.wav,normal,1,AV\nb.wav,murmur,2,"P,V"\nc.wav,,3,\nd.wav,normal,4,MV\n'
    )
    return {"name": "table", "data": folder / "table.csv"}


def excel_source(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    write_noise(folder, "ab", rng)
    rows = [["path", "label"], ["a.wav", "normal"], ["b.wav", "murmur"]]
    return {"name": "table", "data": write_xlsx(folder / "table.xlsx", one=rows)}


def cinc_source(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    base, names = folder / "training-a", ("a0001", "a0002")
    base.mkdir()
    write_noise(base, names, rng, 2000)
    for name in names:
        (base / f"{name}.hea").write_text(f"{name} 1 2000 4000\n{name}.wav 16+44 1 16 0 0 0 0 PCG\n# Normal\n")
    (base / "REFERENCE.csv").write_text("a0001,1\na0002,-1\n")
    (base / "REFERENCE-SQI.csv").write_text("a0001,1,1\na0002,-1,0\n")
    return {"name": "cinc2016", "data": folder}


def zip_source(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    config = cinc_source(folder, rng)
    return {**config, "data": shutil.make_archive(str(folder / "data"), "zip", folder, "training-a")}


def circor_source(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    base, names = folder / "training_data", ("2530_AV", "2530_PV", "2531_AV")
    base.mkdir()
    (folder / "training_data.csv").write_text(
        "Patient ID,Recording locations:,Age,Sex,Murmur,Outcome,Additional ID\n"
        "2530,AV+PV,Child,Female,Absent,Abnormal,\n2531,AV,Infant,Male,Present,Normal,2530\n"
    )
    write_noise(base, names, rng)
    for name in names:
        (base / f"{name}.hea").write_text(f"{name} 1 4000 4000\n{name}.wav 16+44 1 16 0 0 0 0\n")
        (base / f"{name}.tsv").write_text("0\t0.2\t1\n0.2\t0.5\t2\n0.5\t1\t0\n")
    for patient in ("2530", "2531"):
        (base / f"{patient}.txt").write_text(
            f"{patient} 1 4000\nAV {patient}_AV.hea {patient}_AV.wav {patient}_AV.tsv\n#Age: Child\n"
            "#Murmur: Absent\n#Outcome: Normal\n"
        )
    return {"name": "circor2022", "data": folder}


def pascal_source(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    names = ("103_1305031931979_B", "104_1305031931980_A")
    (folder / "set_b").mkdir()
    write_noise(folder / "set_b", (f"normal__{name}" for name in names), rng)
    rows = (f"b,set_b/Btraining_normal_{name}.wav,normal,\n" for name in names)
    (folder / "set_b.csv").write_text("dataset,fname,label,sublabel\n" + "".join(rows))
    return {"name": "pascal", "data": folder, "sets": ["set_b"]}


# Writes a small source and returns its configuration; the files of it that are damaged.
FUZZED_SOURCES: dict[str, tuple[Callable[[Path, np.random.Generator], dict[str, object]], str]] = {
    "csv": (table_source, "*.csv"),
    "cinc2016": (cinc_source, "*.[hc]*"),
    "circor2022": (circor_source, "*.[hct]*"),
    "pascal": (pascal_source, "*.csv"),
    "excel": (excel_source, "*.xlsx"),
    "zip": (zip_source, "*.zip"),
}


def fuzz_tables(count: int, rng: np.random.Generator) -> Counter[str]:
    """Each source with a damaged table, header or archive is listed and hashed, or refused with a `SourceError`.

    The first of each kind is whole, to show that only damage is refused.
    """
    outcomes: Counter[str] = Counter()
    kinds = itertools.cycle(FUZZED_SOURCES.items())
    for number, (kind, (write, pattern)) in enumerate(itertools.islice(kinds, count)):
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
            folder = Path(name)
            config = write(folder, rng)
            if number >= len(FUZZED_SOURCES):
                file = Path(rng.choice(sorted(map(str, folder.rglob(pattern)))))
                file.write_bytes(damaged(file.read_bytes(), rng))
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            try:
                source = SOURCES[str(config["name"])].model_validate(config)
                source.check()
                table, _ = take_inventory(source, folder / "work")
                outcomes[f"{kind}: listed" if table.num_rows else f"{kind}: empty"] += 1
            except SourceError as error:
                if name not in str(error):
                    sys.exit(f"{kind}: refused without naming the file: {error}")
                outcomes[f"{kind}: refused"] += 1
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=int, default=5000)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    rng = np.random.default_rng(options.seed)
    whole = recordings(rng)
    outcomes = {
        "audio": fuzz_audio(damaged(whole[rng.integers(len(whole))], rng) for _ in range(options.audio)),
        "headers": fuzz_audio(damaged_headers(rng)),
        "tables": fuzz_tables(options.tables, rng),
    }
    faulthandler.cancel_dump_traceback_later()
    json.dump(outcomes, sys.stdout, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
