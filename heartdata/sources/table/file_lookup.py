"""Finding the file that a table names without its suffix or folder, in another letter case, or as another machine did."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple
from urllib.parse import unquote

from heartdata.errors import SourceError
from heartdata.settings import contains_password
from heartdata.sources.base import Files, find_files, names_below
from heartdata.sources.table.cells import folded
from heartdata.sources.text import PATH_LENGTH, clean_cell, enumerated, is_unclean, shortened
from heartdata.storage.remote import is_remote

IN_SUB_FOLDERS = "in sub-folders"
OTHER_NAME = "under another name than the table's"
BY_END = "by the end of their paths"
BY_NUMBER = "by their number"
EXAMPLES = 3  # files named in a note
GUESSES = (BY_END, BY_NUMBER)  # refused where another row names the same file
FILE_URI = re.compile(r"(file|local):(//localhost(?=/)|//(?=/))?(?=/)", re.IGNORECASE)
IN_QUOTES = re.compile(r"""(["'])([^"']+)\1""")
SEVERAL = re.compile(r"[;,|]")  # between several files in one cell
NUMBER = re.compile(r"0*(\d+)(\.0+)?(\.[a-z]\w+)?", re.IGNORECASE)  # what a column of numbers leaves of 001 or 001.wav


class Match(NamedTuple):
    """The file or URI that a table's path means, and ``how`` it was found by another name; or why there is none."""

    path: Path | str | None
    missing: str | None = None
    how: str = ""


class FileLookup:
    """The audio files below ``root``, or ``paths`` of them, by every name that a table may give them."""

    def __init__(self, root: Path, paths: Sequence[Path] | None = None) -> None:
        self.root, self._given = root, paths

    @cached_property
    def files(self) -> Files:
        """The files below the root. Raises `SourceError` for a folder that may not be read."""
        return find_files(self.root) if self._given is None else Files(self.root, list(self._given), [])

    @property
    def paths(self) -> Sequence[Path]:
        """Every audio file below the root. Raises `SourceError` for a folder that may not be read."""
        return self.files.audio

    def find_all(self, names: Iterable[str]) -> dict[str, Match]:
        """`find` of each name; a file that another name means too is not taken where its name is only similar."""
        listed = {name: path for path, name in self._names.items()}
        found: dict[str, Match] = {}
        for name in dict.fromkeys(names):
            is_listed = name in listed and os.path.isfile(listed[name])  # noqa: PTH113 (twice as fast)
            found[name] = Match(listed[name]) if is_listed else self.find(name)
        if not any(match.how in GUESSES for match in found.values()):
            return found
        spellings = {(folded(name.replace("\\", "/")), match.path) for name, match in found.items() if match.path}
        owners = Counter(path for _, path in spellings)
        for name, match in found.items():
            if match.path and match.how in GUESSES and owners[match.path] > 1:
                other = f"; {self._names[Path(match.path)]} is the file of another row, too"
                found[name] = Match(None, self._absence(name) + other)
        return found

    def find(self, name: str) -> Match:
        """The file that ``name`` means, as it is written or else cleaned; a URI is returned as it is. A backslash may stand
        for a slash.

        Raises `SourceError` for a URI with a password.
        """
        if not name:
            return Match(None, "the table gives no path")
        if contains_password(name):
            raise SourceError("a path of the table has a password in it: remove it and set it in the environment")
        if is_remote(name):
            return Match(name)
        slashed = name.replace("\\", "/")
        try:
            if path := self.exact(name):
                return Match(path)
        except OSError as error:  # a name too long for the file system, a folder without permission
            return Match(None, f"the path cannot be read: {error}")
        if is_unclean(name):
            return self.find(clean_cell(name))
        for how, search in (
            (OTHER_NAME, self.candidates),
            (BY_END, self._with_end),
            (BY_NUMBER, self._with_number),
        ):
            candidates = search(slashed)
            if len(candidates) > 1:
                examples = " and ".join(self._names[path] for path in candidates[:2])
                return Match(None, f"{name} may mean {len(candidates)} files, such as {examples}")
            if candidates:
                return Match(candidates[0], how=self._how(slashed, candidates[0]) if how == OTHER_NAME else how)
        return Match(None, self._absence(name))

    def exact(self, name: str) -> Path | None:
        """The file of just that path, slashes and ``~`` aside. Raises OSError for a path that cannot be looked up."""
        slashed = name.replace("\\", "/")
        spellings = list(dict.fromkeys((name, slashed)))
        if name.startswith("~"):
            with suppress(RuntimeError):  # no such user
                spellings.append(str(Path(slashed).expanduser()))
        return next((path for spelling in spellings if (path := self.root / spelling).is_file()), None)

    def candidates(self, name: str) -> list[Path]:
        """The files that ``name`` (with slashes) may mean: a whole path, or a bare name in any folder."""
        return self._by_name.get(folded(name)) or self._by_name.get(folded(str(PurePosixPath(name))), [])

    def _with_end(self, slashed: str) -> list[Path]:
        """The files that share the longest end with the path ``slashed``; for a relative path, one must be the end
        of the other, as patients' folders may hold files of the same names.
        """
        parts = [part for part in PurePosixPath(slashed).parts if part not in ("/", "..")]
        is_absolute = slashed[0] in "/~" or PureWindowsPath(slashed).drive != ""
        if len(parts) < 2:
            return []
        whole, *shorter = _ends(parts)
        index = self._by_end if is_absolute else self._by_whole_path
        return self._by_end.get(whole) or next((index[end] for end in shorter if end in index), [])

    def _with_number(self, name: str) -> list[Path]:
        """The files that the number ``name`` is the name of, zeros before it aside."""
        number = NUMBER.fullmatch(name)
        paths = self._by_number.get(number[1], []) if number else []
        return [path for path in paths if number and (number[3] or path.suffix).lower() == path.suffix.lower()]

    def _how(self, slashed: str, path: Path) -> str:
        """How the name of ``path`` differs from the table's; nothing where it is only in the form of its accents."""
        below, name = clean_cell(f"/{self._names[path]}"), clean_cell(f"/{slashed}")
        return "" if below == name else IN_SUB_FOLDERS if below.endswith(name) else OTHER_NAME

    def _absence(self, name: str) -> str:
        """Why there is no file of that name."""
        if PureWindowsPath(name).is_absolute() and not name.startswith("/"):
            return f"{name} is a path of a Windows computer, while paths should begin at {self.root}"
        path = self.root / name.replace("\\", "/")
        names = [part for part in map(str.strip, SEVERAL.split(name)) if part]
        with suppress(OSError):
            if path.is_dir():
                return f"{path} is a folder, where the name of a file is needed"
            if len(names) > 1 and all(self.exact(part) or self.candidates(part.replace("\\", "/")) for part in names):
                return f"{name} names {len(names)} files, while a cell can name one"
        return f"{path} is a broken link" if path.is_symlink() else f"there is no file {path}"

    @cached_property
    def _names(self) -> dict[Path, str]:
        """Each file to its name below the root."""
        return dict(zip(self.paths, names_below(self.root, self.paths), strict=True))

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        by_name: dict[str, list[Path]] = defaultdict(list)
        for path, name in self._names.items():
            stem = name[: name.rindex(".")]
            names = (name, stem, name.rpartition("/")[2], stem.rpartition("/")[2])
            for spelling in set(map(folded, names)):
                by_name[spelling].append(path)
        return by_name

    @cached_property
    def _by_end(self) -> dict[str, list[Path]]:
        """The files by every end of their paths below the root, with and without the suffix."""
        by_end: dict[str, list[Path]] = defaultdict(list)
        for path, name in self._names.items():
            *folders, last = name.split("/")
            for spelling in {folded(last): last, folded(path.stem): path.stem}.values():
                for end in _ends([*folders, spelling]):
                    by_end[end].append(path)
        return by_end

    @cached_property
    def _by_whole_path(self) -> dict[str, list[Path]]:
        whole = {
            end: [p for p in paths if self._names[p].count("/") == end.count("/")]
            for end, paths in self._by_end.items()
        }
        return {end: paths for end, paths in whole.items() if paths}

    @cached_property
    def _by_number(self) -> dict[str, list[Path]]:
        by_number: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            if path.stem.isascii() and path.stem.isdigit():
                by_number[path.stem.lstrip("0") or "0"].append(path)
        return by_number


def _ends(parts: Sequence[str]) -> list[str]:
    """Every end of the path of ``parts``, the longest first, whatever its spelling."""
    spellings = list(map(folded, parts))
    return ["/".join(spellings[i:]) for i in range(len(parts))]


def without_scheme(name: str) -> str:
    """The path that a ``file:`` URI names, or one in quotes, as Windows copies it; any other name as it is."""
    cleaned = clean_cell(name) if is_unclean(name) else name
    if quotes := IN_QUOTES.fullmatch(cleaned.strip()):
        return without_scheme(quotes[2])
    uri = FILE_URI.match(cleaned)
    return unquote(cleaned[uri.end() :]) if uri else name


def found_notes(lookup: FileLookup, found: dict[str, Match]) -> list[str]:
    """A note on the files of each kind that were found by another name than the table's."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name, match in found.items():
        if match.how:
            groups[match.how].append(name)
    notes = []
    for how in (IN_SUB_FOLDERS, OTHER_NAME, BY_END, BY_NUMBER):
        if names := groups[how]:
            were = "1 file was" if len(names) == 1 else f"{len(names)} files were"
            more = ", ..." if len(names) > 1 else ""
            (path,) = names_below(lookup.root, [Path(str(found[names[0]].path))])
            notes.append(f"{were} found {how}: {shortened(names[0], PATH_LENGTH)} as {path}{more}")
    return notes


def lookup_beside(path: Path, cells: Sequence[str]) -> tuple[FileLookup, list[str]]:
    """The files beside the table ``path``, some of whose ``cells`` are paths, and a note where it is a link.

    Of a link, those beside it; those beside the file that it points to, if only they are named.
    """
    beside, linked = FileLookup(path.parent), FileLookup(path.resolve().parent)
    if not path.is_symlink() or beside.root.resolve() == linked.root:
        return beside, []
    named = (lookup for lookup in (beside, linked) if any(isinstance(lookup.find(c).path, Path) for c in cells if c))
    lookup = next(named, beside)
    return lookup, [f"{path} is a link to {path.resolve()}: its paths begin at {lookup.root}"]


def unlisted_notes(
    lookup: FileLookup, listed: Sequence[Path], cells: Iterable[tuple[str, str]], remedy: str
) -> list[str]:
    """A note on the audio files that are not ``listed``. ``cells`` with their columns, which are not read, may name them;
    ``remedy`` says what to do then.
    """
    unlisted = set(lookup.paths).difference(listed)
    resolved = {path.resolve() for path in listed} if unlisted else set()  # slow, and only links need it
    unlisted = {path for path in unlisted if path.resolve() not in resolved}
    if not unlisted:
        return []
    left_out = f"{len(unlisted)} of {len(lookup.paths)} audio files below {lookup.root} are left out"
    named: dict[str, set[Path]] = defaultdict(set)
    for column, cell in cells:
        candidates = lookup.candidates(cell.replace("\\", "/"))
        named[column].update(unlisted.intersection(candidates if len(candidates) == 1 else ()))
    if columns := [column for column, paths in named.items() if paths]:
        count = len(set().union(*named.values()))
        return [
            f"{left_out}, of which other columns name {count} ({enumerated(list(map(shortened, columns)))}): {remedy}"
        ]
    names = sorted(names_below(lookup.root, list(unlisted)))
    more = f" and {len(names) - EXAMPLES} more" if len(names) > EXAMPLES else ""
    return [f"{left_out}, as they are in no row of the table: {', '.join(names[:EXAMPLES])}{more}"]
