"""Damaged inputs by the thousand: each must be read or refused in a sentence, in bounded time and memory.

    python tests/fuzzing.py --audio 5000 --tables 1000 --seed 0

Exits with 1 when an input raised what it must not, is killed with a stack trace when one hangs, and runs out of its own
memory limit when one asks for too much. The tests run it with a fixed seed; give more and other seeds at leisure.
"""

import argparse
import faulthandler
import io
import itertools
import resource
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from heartdata.audio.decode import decode
from heartdata.audio.measurements import MeasureConfig, measure_samples
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


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """``content`` after one to three kinds of damage, most of them near its beginning, where headers are."""
    for _ in range(rng.integers(1, 4)):
        content = DAMAGES[rng.integers(len(DAMAGES))](bytearray(content or b"\0"), rng)
    return content


def _place(content: bytearray, rng: np.random.Generator) -> int:
    return int(rng.integers(min(len(content), 100 if rng.random() < 0.6 else len(content))))


def flip(content: bytearray, rng: np.random.Generator) -> bytes:
    for _ in range(rng.integers(1, 30)):
        content[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(content)


def extreme(content: bytearray, rng: np.random.Generator) -> bytes:
    at, size = _place(content, rng), int(rng.choice([1, 2, 4]))
    number = EXTREMES[rng.integers(len(EXTREMES))] & (256**size - 1)
    content[at : at + size] = number.to_bytes(size, "little" if rng.random() < 0.7 else "big")
    return bytes(content)


def cut(content: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(content[: rng.integers(len(content) + 1)])


def insert(content: bytearray, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    return bytes(content[:at]) + rng.bytes(rng.integers(1, 200)) + bytes(content[at:])


def repeat(content: bytearray, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    return bytes(content[:at]) + bytes(content[at : at + 200]) * int(rng.integers(1, 20)) + bytes(content[at:])


def drop(content: bytearray, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    return bytes(content[:at] + content[at + rng.integers(1, 200) :])


def zeros(content: bytearray, rng: np.random.Generator) -> bytes:
    at = _place(content, rng)
    content[at : at + 50] = bytes(len(content[at : at + 50]))
    return bytes(content)


DAMAGES: list[Callable[[bytearray, np.random.Generator], bytes]] = [flip, extreme, cut, insert, repeat, drop, zeros]


def sounds(rng: np.random.Generator) -> list[bytes]:
    """Half a second of noise in every format."""
    contents = []
    for form, subtype in FORMATS:
        buffer = io.BytesIO()
        shape = (8000, 1 + len(contents) % 2)
        soundfile.write(buffer, rng.normal(0, 0.1, shape).astype(np.float32), 16000, format=form, subtype=subtype)
        contents.append(buffer.getvalue())
    return contents


def fuzz_audio(count: int, rng: np.random.Generator) -> Counter[str]:
    """Each damaged content is measured and predicted for, or refused; see `outcomes_of`."""
    whole = sounds(rng)
    return outcomes_of(mutated(whole[rng.integers(len(whole))], rng) for _ in range(count))


def outcomes_of(contents: Iterable[bytes]) -> Counter[str]:
    """Each content becomes facts of the schema and a finite spectrogram, or `BadAudio`; and a prediction, or an error."""
    outcomes: Counter[str] = Counter()
    predictor = Predictor(TinyNet(), CONFIG)

    def measured() -> Iterator[bytes]:
        for content in contents:
            faulthandler.dump_traceback_later(HANG_S, exit=True)
            try:
                audio = decode(content)
                row = measure_samples(audio, MeasureConfig())
                table_from_rows([{"sha256": "x", **row}], FACTS)
                if row["finite"]:
                    assert np.isfinite(log_mel(audio.mono, audio.rate_hz, SpectrogramConfig())).all()
                outcomes["read" if row["finite"] else "not finite"] += 1
            except BadAudio:
                outcomes["refused"] += 1
            yield content

    for answer in predictor.predict(measured()):
        if not isinstance(answer, BadAudio):
            assert np.isfinite(answer.probabilities).all()
        outcomes["no prediction" if isinstance(answer, BadAudio) else "prediction"] += 1
    return outcomes


class TinyNet(nn.Module):
    """A network that takes no time: (n, 1, mel_bands, width) to (n, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(2))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        return windows.mean((1, 2, 3))[:, None] * self.weights


CONFIG = ModelConfig(
    classes=("a", "b"), width=128, spectrogram=SpectrogramConfig(), dataset_version="", init="random",
    accepts=RecordingBounds(min_duration_s=0.1),
)  # fmt: skip

# Fields of the chunk fmt, from its beginning: format, channels, rate, bytes a second, bytes a frame, bits.
FORMAT_FIELDS = ((0, 2), (2, 2), (4, 4), (8, 4), (12, 2), (14, 2))
HEADER_BYTES = 48


def with_number(content: bytes, at: int, size: int, number: int) -> bytes:
    """``content`` with a little-endian number in the place of ``size`` bytes."""
    return content[:at] + number.to_bytes(size, "little") + content[at + size :]


def headers(rng: np.random.Generator) -> Iterator[bytes]:
    """Recordings in every format whose header holds 0, the highest or a random number in the place of one field.

    A field may be every number of 2 or 4 bytes at the beginning. Of wav `wav_headers` as well.
    """
    for (form, _), content in zip(FORMATS, sounds(rng), strict=True):
        for size, at in itertools.product((2, 4), range(0, HEADER_BYTES, 2)):
            for number in (0, 256**size - 1, int(rng.integers(256**size))):
                yield with_number(content, at, size, number)
        if form == "WAV":
            yield from wav_headers(content, rng)


def wav_headers(content: bytes, rng: np.random.Generator) -> Iterator[bytes]:
    """A wav file with other sizes of its chunks, and with 0 or the highest number in several fields of the chunk fmt.

    All combinations: numbers that are wrong together may fit each other, as no channels and no bytes a second do.
    """
    for place in (content.find(name) for name in (b"fmt ", b"fact", b"data") if name in content):
        for number in (*EXTREMES, len(content), len(content) - place, int(rng.integers(1 << 32))):
            yield with_number(content, place + 4, 4, number)
    start = content.index(b"fmt ") + 8
    for numbers in itertools.product((None, 0, -1), repeat=len(FORMAT_FIELDS)):
        changed = content
        for (at, size), number in zip(FORMAT_FIELDS, numbers, strict=True):
            if number is not None:
                changed = with_number(changed, start + at, size, number % 256**size)
        yield changed


def fuzz_headers(rng: np.random.Generator) -> Counter[str]:
    """What `headers` gives; see `outcomes_of`."""
    return Counter({f"header {name}": count for name, count in outcomes_of(headers(rng)).items()})


def table_set(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    """A small table source; returns its configuration."""
    for name in "abcd":
        soundfile.write(folder / f"{name}.wav", rng.normal(0, 0.1, 4000), 4000)
    (folder / "table.csv").write_text(
        'path,label,subject,site\na.wav,normal,1,AV\nb.wav,murmur,2,"P,V"\nc.wav,,3,\nd.wav,normal,4,MV\n'
    )
    return {"name": "table", "data": folder / "table.csv"}


def cinc_set(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    """A database in the layout of CinC 2016."""
    base = folder / "training-a"
    base.mkdir()
    for name in ("a0001", "a0002"):
        soundfile.write(base / f"{name}.wav", rng.normal(0, 0.1, 4000), 2000)
        (base / f"{name}.hea").write_text(f"{name} 1 2000 4000\n{name}.wav 16+44 1 16 0 0 0 0 PCG\n# Normal\n")
    (base / "REFERENCE.csv").write_text("a0001,1\na0002,-1\n")
    (base / "REFERENCE-SQI.csv").write_text("a0001,1,1\na0002,-1,0\n")
    return {"name": "cinc2016", "data": folder}


def circor_set(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    """A patient in the layout of CirCor 2022."""
    base = folder / "training_data"
    base.mkdir()
    (folder / "training_data.csv").write_text(
        "Patient ID,Recording locations:,Age,Sex,Murmur,Outcome,Additional ID\n"
        "2530,AV+PV,Child,Female,Absent,Abnormal,\n2531,AV,Infant,Male,Present,Normal,2530\n"
    )
    for name in ("2530_AV", "2530_PV", "2531_AV"):
        soundfile.write(base / f"{name}.wav", rng.normal(0, 0.1, 4000), 4000)
        (base / f"{name}.hea").write_text(f"{name} 1 4000 4000\n{name}.wav 16+44 1 16 0 0 0 0\n")
        (base / f"{name}.tsv").write_text("0\t0.2\t1\n0.2\t0.5\t2\n0.5\t1\t0\n")
    for patient in ("2530", "2531"):
        (base / f"{patient}.txt").write_text(
            f"{patient} 1 4000\nAV {patient}_AV.hea {patient}_AV.wav {patient}_AV.tsv\n#Age: Child\n"
            "#Murmur: Absent\n#Outcome: Normal\n"
        )
    return {"name": "circor2022", "data": folder}


def pascal_set(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    """Set B of PASCAL with two recordings."""
    (folder / "set_b").mkdir()
    rows = "dataset,fname,label,sublabel\n"
    for name in ("103_1305031931979_B", "104_1305031931980_A"):
        soundfile.write(folder / "set_b" / f"normal__{name}.wav", rng.normal(0, 0.1, 4000), 4000)
        rows += f"b,set_b/Btraining_normal_{name}.wav,normal,\n"
    (folder / "set_b.csv").write_text(rows)
    return {"name": "pascal", "data": folder, "sets": ["set_b"]}


def excel_set(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    """The table as an Excel file, written by hand: the smallest that readers take."""
    config = table_set(folder, rng)
    cells = "".join(
        f'<row r="{r}">'
        + "".join(f'<c r="{c}{r}" t="inlineStr"><is><t>{v}</t></is></c>' for c, v in zip("AB", row, strict=True))
        + "</row>"
        for r, row in enumerate([("path", "label"), ("a.wav", "normal"), ("b.wav", "murmur")], 1)
    )
    space = "http://schemas.openxmlformats.org"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{space}/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{space}/package/2006/relationships"><Relationship Id="r1" Type="{space}/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{space}/spreadsheetml/2006/main" xmlns:r="{space}/officeDocument/2006/relationships"><sheets><sheet name="one" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{space}/package/2006/relationships"><Relationship Id="r1" Type="{space}/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{space}/spreadsheetml/2006/main"><sheetData>{cells}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(folder / "table.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return {**config, "data": folder / "table.xlsx"}


def zip_set(folder: Path, rng: np.random.Generator) -> dict[str, object]:
    """The database packed as one archive."""
    config = cinc_set(folder, rng)
    with zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "training-a").iterdir()):
            archive.write(path, path.relative_to(folder))
    return {**config, "data": folder / "data.zip"}


# A way to make a small source, and the files of it that are damaged.
SETS: dict[str, tuple[Callable[[Path, np.random.Generator], dict[str, object]], str]] = {
    "csv": (table_set, "*.csv"),
    "cinc2016": (cinc_set, "*.[hc]*"),
    "circor2022": (circor_set, "*.[hct]*"),
    "pascal": (pascal_set, "*.csv"),
    "excel": (excel_set, "*.xlsx"),
    "zip": (zip_set, "*.zip"),
}


def fuzz_tables(count: int, rng: np.random.Generator) -> Counter[str]:
    """Each damaged table, header or archive is listed and hashed, or refused with a `SourceError`."""
    outcomes: Counter[str] = Counter()
    for number in range(count):
        kind, (make, pattern) = list(SETS.items())[number % len(SETS)]
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        config = make(folder, rng)
        victims = sorted(folder.rglob(pattern))
        victim = victims[rng.integers(len(victims))]
        victim.write_bytes(mutated(victim.read_bytes(), rng))
        faulthandler.dump_traceback_later(HANG_S, exit=True)
        try:
            source = SOURCES[str(config["name"])].model_validate(config)
            source.check()
            table, _ = take_inventory(source, folder / "work")
            outcomes[f"{kind}: listed" if table.num_rows else f"{kind}: empty"] += 1
        except SourceError as error:
            named = str(folder) in str(error)
            outcomes[f"{kind}: refused" if named else f"{kind}: REFUSED WITHOUT NAMING THE FILE ({error})"] += 1
        shutil.rmtree(folder)
    return outcomes


def peak_mib() -> float:
    """The most memory that this program held; getrusage would tell that of the process that started it, if it is more."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=int, default=5000)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    outcomes = fuzz_audio(chosen.audio, np.random.default_rng([chosen.seed, 0]))
    outcomes += fuzz_headers(np.random.default_rng([chosen.seed, 2]))
    outcomes += fuzz_tables(chosen.tables, np.random.default_rng([chosen.seed, 1]))
    faulthandler.cancel_dump_traceback_later()
    peak = peak_mib()
    sys.stdout.write("".join(f"{count:6d}  {outcome}\n" for outcome, count in sorted(outcomes.items())))
    sys.stdout.write(f"{peak:6.0f}  MiB at most\n")
    sys.exit(any("WITHOUT" in outcome for outcome in outcomes))


if __name__ == "__main__":
    main()
