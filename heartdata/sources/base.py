"""The protocol of a source, which lists recordings without opening the audio, and what several sources share."""

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, runtime_checkable

from pydantic import AfterValidator, Field

from heartdata.errors import SourceError
from heartdata.settings import Settings, sha256_json
from heartdata.sources.text import clean_cell
from heartdata.storage.store import is_store

AUDIO_SUFFIXES = (
    # read by libsndfile
    ".wav", ".wave", ".bwf", ".rf64", ".flac", ".ogg", ".oga", ".mp3", ".mp2", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".opus", ".caf", ".w64", ".voc", ".sph", ".nist",
    # read where ffmpeg is installed, else quarantined
    ".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".qt", ".aac", ".adts", ".amr", ".awb", ".3gp", ".3gpp", ".3g2", ".wma", ".wmv",
    ".asf", ".webm", ".weba", ".mka", ".mkv", ".avi", ".flv", ".mpg", ".mpeg", ".spx", ".ogv", ".ogx", ".wv", ".ape", ".ac3",
)  # fmt: skip
COMPANIONS = (
    ".csv", ".tsv", ".txt", ".json", ".jsonl", ".xlsx", ".xls", ".parquet", ".hea", ".dat", ".md", ".pdf", ".html", ".zip",
    ".yaml", ".yml",
)  # fmt: skip
COMPANION_NAMES = (
    "license",
    "readme",
    "records",
    "reference",
    "sha1sums",
    "sha256sums",
    "md5sums",
    "annotators",
    "anns",
    "wfdbcal",
)
PLACEHOLDERS = {
    **dict.fromkeys((".icloud", ".gdoc", ".gsheet", ".gdrive", ".cloud"), " (kept in a cloud drive: download them)"),
    **dict.fromkeys(
        (".crdownload", ".part", ".partial", ".download", ".filepart"), " (unfinished: download them again)"
    ),
}
OF_A_MAC = (".ds_store", "._", ".localized", ".apdisk")  # how names of files begin that macOS leaves behind
NON_UTF8 = re.compile("[\ud800-\udfff]")  # how Python represents bytes of a name that are not UTF-8
SYSTEM_FOLDERS = ("lost+found", "$RECYCLE.BIN", "System Volume Information", "__MACOSX")  # of disks, not of data sets


@dataclass(frozen=True)
class SourceRecording:
    """One recording as the source names it.

    ``path``: a local file, or the fsspec URI of a remote one. ``missing`` says why there is no file to read, ``excluded``
    who left the recording out, and why.
    """

    recording_id: str
    path: Path | str | None
    label: str | None = None
    subject: str | None = None
    site: str | None = None
    collection: str = ""
    missing: str | None = None
    excluded: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    source: str | None = None  # in a mix, the part that it comes from; None: the source that lists it


@dataclass(frozen=True)
class SourceListing:
    """All recordings of a source, and notes for people, such as how many files are in no row of the table."""

    recordings: Sequence[SourceRecording]
    notes: Sequence[str] = ()


class Source(Protocol):
    """A source is a frozen settings object. ``preset`` holds its defaults for later stages."""

    preset: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str: ...

    @property
    def corrections(self) -> Path | None: ...

    def digest(self) -> str: ...

    def check(self) -> None:
        """Raise `SourceError` for faults that are known at once: an absent folder, a table without labels."""
        ...

    def listing(self, workdir: Path) -> SourceListing:
        """List the recordings; raises `SourceError`. ``workdir``: where the source may keep files of its own."""
        ...


@runtime_checkable
class MakesRecordings(Protocol):
    """A source that makes recordings of its own before it can list them, which may take minutes."""

    def make(self, workdir: Path, progress: Callable[[int, int], None]) -> Any:
        """Make what does not exist below ``workdir``; ``progress`` gets how many are done, and of how many."""
        ...


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100 (resolve follows links)


class SourceSettings(Settings):
    """The base of all sources."""

    corrections: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        default=None,
        exclude_if=lambda corrections: corrections is None,
        description="a table of labels that people corrected: recording, new_label (a label or exclude), who, why",
    )

    def digest(self) -> str:
        """Hex sha256 of the values, without the corrections: their effect is in the recordings."""
        return sha256_json(self.model_dump(mode="json", exclude={"corrections"}))


class FolderSource(SourceSettings):
    """The base of sources that read a folder or file."""

    data: Path = Field(description="the folder or file to read the recordings from")

    def existing(self, what: str, setting: str = "--data") -> Path:
        """The absolute path of ``data``; raises `SourceError`, which names the ``setting``, when it does not exist."""
        try:
            path = self.data.expanduser().resolve()
        except RuntimeError as error:
            raise SourceError(
                f"{self.data} is a link to itself or begins with an unknown user: give the {what} with {setting}"
            ) from error
        if not path.exists():
            raise SourceError(f"{path} does not exist: give the {what} with {setting}")
        return path


def check_source(source: Source) -> None:
    """`Source.check`, which raises `SourceError` also for a file or folder that may not be read, and absent corrections."""
    try:
        source.check()
        if source.corrections and not source.corrections.is_file():
            raise SourceError(f"{source.corrections} does not exist: correct source.corrections or leave it out")
    except OSError as error:
        raise _unreadable(error) from error


def _unreadable(error: OSError) -> SourceError:
    return SourceError(
        f"{error.filename} cannot be read ({error.strerror}), so its content would be left out: change its permissions "
        "or move it away, and run again"
    )


@dataclass(frozen=True)
class Files:
    """The files below ``root``: ``audio`` ones, and ``others``, each sorted."""

    root: Path
    audio: list[Path]
    others: list[Path]

    def left_out(self, companions: bool, read: Collection[Path] = ()) -> list[str]:
        """A note that counts the other files by suffix, or none; ``companions``: also those usual beside recordings.

        Not counted are files in ``read``, and those that macOS and other hidden folders hold.
        """
        counts = Counter(
            _kind(path) for path in self.others if path not in read and _is_odd(path, self.root, companions)
        )
        if not counts:
            return []
        kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
        listed = (f"{counts[kind]} {kind}{PLACEHOLDERS.get(kind, '')}" for kind in kinds)
        return [f"Left out below {self.root}, as no audio files by their names: {', '.join(listed)}"]


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    is_hidden = path.name[0] == "." and suffix not in PLACEHOLDERS
    return "hidden" if is_hidden else suffix or "without suffix"


def _is_odd(path: Path, root: Path, companions: bool) -> bool:
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.startswith(OF_A_MAC) or any(part[0] == "." for part in path.relative_to(root).parts[:-1]):
        return False
    return companions or not (suffix in COMPANIONS or (not suffix and path.stem.lower().startswith(COMPANION_NAMES)))


def audio_files(folder: Path) -> list[Path]:
    """The audio files of `find_files`."""
    return find_files(folder).audio


def find_files(folder: Path) -> Files:
    """Every file below ``folder``, stores and Python's environments aside; hidden ones (such as macOS's ``._`` ones) are no
    audio files.

    Symbolic links are followed, but each folder is entered once, by its own name where it is below ``folder`` itself.
    Raises `SourceError` for a folder that may not be read and for an audio file's name that is not UTF-8.
    """

    def refuse(error: OSError) -> None:
        raise _unreadable(error) from error

    files: list[str] = []
    others: list[Path] = []
    visited: set[Path] = set()
    starts = [folder]
    while starts:
        links: list[Path] = []
        for start in starts:
            for here, folders, names in os.walk(start, onerror=refuse):
                folders[:] = [n for n in folders if n not in SYSTEM_FOLDERS and not _holds_no_data(Path(here, n))]
                if (real := Path(here).resolve()) in visited:
                    folders.clear()
                    continue
                visited.add(real)
                links += [path for name in folders if (path := Path(here, name)).is_symlink()]
                for name in names:
                    if name.lower().rstrip().endswith(AUDIO_SUFFIXES) and name[0] != ".":
                        files.append(os.path.join(here, name))  # noqa: PTH118 (paths are slow)
                    else:
                        others.append(Path(here, name))
        starts = sorted(links)
    files.sort(key=lambda file: file.replace(os.sep, "\0"))  # folder by folder
    if not_utf8 := [file for file in files if NON_UTF8.search(file)]:
        raise SourceError(
            f"the names of {len(not_utf8)} of {len(files)} audio files are not UTF-8, the first being "
            f"{os.fsencode(not_utf8[0])!r}: rename them, or all with convmv -r -f latin1 -t utf8 --notest {folder}"
        )
    return Files(folder, list(map(Path, files)), sorted(others))


def _holds_no_data(folder: Path) -> bool:
    """Whether a folder is a store or a Python environment, whose packages bring audio files for their tests."""
    return is_store(folder) or (folder / "pyvenv.cfg").is_file()


def names_below(folder: Path, files: Sequence[Path]) -> list[str]:
    """The names of ``files`` of `find_files`, with slashes, relative to ``folder``."""
    start = len(str(folder / "_")) - 1
    return [str(file)[start:].replace(os.sep, "/") for file in files]


def wav_files(folder: Path) -> dict[str, Path]:
    """Name without suffix to ``.wav`` file, of all below ``folder``; raises `SourceError` where two have the same name."""
    files: dict[str, Path] = {}
    for path in audio_files(folder):
        if path.suffix.lower() == ".wav" and files.setdefault(path.stem, path) is not path:
            raise SourceError(
                f"{files[path.stem]} and {path} have the same name, so the tables may mean either: remove one of them"
            )
    return files


def other_than_wav(folder: Path) -> list[str]:
    """A note on the files below ``folder`` that `wav_files` leaves out and that are unusual beside recordings, or none."""
    files = find_files(folder)
    others = [*files.others, *(path for path in files.audio if path.suffix.lower() != ".wav")]
    return Files(folder, [], others).left_out(companions=False)


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder``, sorted, without hidden ones and those of the system."""
    inside = [f for f in folder.iterdir() if f.is_dir() and f.name not in SYSTEM_FOLDERS and f.name[:1] != "."]
    return sorted(inside, key=lambda f: f.name)


def read_cells(table: Path, separators: str, errors: str = "strict") -> list[list[str]]:
    """The cleaned cells of every line of a CSV, separated by the one of ``separators`` that its first line has most of.

    Raises `SourceError` when it is not CSV, or not UTF-8 unless ``errors`` says otherwise (as in `str.encode`).
    """
    try:
        text = table.read_text(encoding="utf-8-sig", errors=errors)
        separator = max(separators, key=text.lstrip().partition("\n")[0].count)  # a spreadsheet may have changed it
        return [[clean_cell(cell) for cell in row] for row in csv.reader(io.StringIO(text), delimiter=separator)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table} cannot be read as a table ({error}): download it again") from error
