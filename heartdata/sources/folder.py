"""Recordings whose labels stand in the names of folders or files: one sub-folder a class, or a pattern."""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from heartdata.errors import SourceError
from heartdata.sources import circor2022, pascal
from heartdata.sources.base import audio_files
from heartdata.sources.cinc2016 import DATABASES
from heartdata.sources.named import FileLookup
from heartdata.sources.tables import ROLES, SUFFIXES, Columns, Entry, plain, read_table
from heartdata.split_strategies import SYNONYMS

PUBLIC = {
    "cinc2016": set(DATABASES),
    "pascal": {*pascal.FOLDERS, *pascal.FOLDERS["set_a"], *pascal.FOLDERS["set_b"]},
    "circor2022": {circor2022.FOLDER},
}
PARTS = (*SYNONYMS, "eval", "evaluation", "unseen")  # and fold1, fold2, ...
FINDINGS = ("normal", "abnormal", "healthy", "pathological", "murmur", "murmurs", "artifact", "artefact", "noise")
SUBJECTS = 10  # so many folders, with few names inside, are hardly classes, even if only one name recurs
NUMBERED = 6  # so many folders that differ in a number alone are hardly classes
NAMED = 4  # of the folders that are told
EXAMPLE = "--set 'source.pattern=(.*/)?(?P<label>[^_/]+)_.*' for normal_01.wav"


def checked_pattern(pattern: str, needs_label: bool) -> str:
    """The pattern itself; raises ValueError when it is no regular expression or has no group of use."""
    try:
        named = groups(pattern)
    except re.error as error:
        raise ValueError(f"this is no regular expression ({error})") from error
    if needs_label and "label" not in named:
        raise ValueError("a group (?P<label>...) is needed, to say which part of a file's name is the label")
    if not named & set(ROLES):
        raise ValueError(f"a group (?P<NAME>...) is needed, NAME being one of {', '.join(ROLES)}")
    return pattern


def groups(pattern: str | None) -> set[str]:
    """The names of the groups of ``pattern``."""
    return set(re.compile(pattern or "").groupindex)


def read_names(pattern: str, names: list[str]) -> tuple[list[dict[str, str]], list[str]]:
    """What each group of ``pattern`` finds in each path (nothing where it does not match), and a note on the others.

    The pattern must match the whole path without its suffix, slashes between folders. Raises `SourceError` when it
    matches none.
    """
    matches = [re.fullmatch(pattern, _without_suffix(name)) for name in names]
    others = [name for name, match in zip(names, matches, strict=True) if match is None]
    if others and len(others) == len(names):
        raise SourceError(
            f"source.pattern={pattern} matches none of {len(names)} paths, such as {_without_suffix(names[0])!r}: "
            "it must match the whole path below the folder, without the suffix"
        )
    found = [{k: v for k, v in match.groupdict().items() if v is not None} if match else {} for match in matches]
    note = "{} of {} paths do not match source.pattern, so nothing was taken from them: {}, ..."
    return found, [note.format(len(others), len(names), others[0])] if others else []


def read_folder(root: Path, pattern: str | None) -> tuple[list[Entry], list[str]]:
    """Every recording below ``root`` with what its path tells, and remarks. Raises `SourceError` when that is nothing."""
    above = f"{root.as_posix().rstrip('/')}/"
    below = [path.as_posix().removeprefix(above) for path in audio_files(root)]
    names = [name for name in below if "/." not in f"/{name}"]
    if not names:
        raise SourceError(f"{root} is a folder that holds no recordings: {_ways(root)}")
    if pattern is not None:
        found, notes = read_names(pattern, names)
        return [Entry.of(name, told) for name, told in zip(names, found, strict=True)], notes
    classes = {name: name.partition("/")[0] for name in names if "/" in name}
    _refuse_other_layouts(root, names, set(classes.values()))
    labels = {name: label for name, label in classes.items() if "unlabel" not in label.casefold()}
    _refuse_groups(root, labels)
    _refuse_numbered(root, sorted(set(labels.values())))
    if len(set(labels.values())) < 2:
        raise SourceError(f"{root} is a folder without one sub-folder of recordings for each class: {_ways(root)}")
    _refuse_ignored_table(root, names)
    entries = [Entry.of(name, {"label": labels[name]} if name in labels else {}) for name in names]
    return entries, list(_notes(root, labels.values(), [name for name in names if name not in labels]))


def subjects_hint(names: list[str], pattern: str | None) -> str:
    """Where in the paths ``names``, of which ``pattern`` tells the labels, the subjects may stand, as far as it shows."""
    inner = [name.rsplit("/", 1)[0] for name in names if name.count("/") > 1]
    called = {folder.rpartition("/")[2] for folder in inner}
    numbered = [re.fullmatch(r".*?\d+", _without_suffix(name)) for name in names]
    recorded = 2 * len(inner) > len(names) and len(set(inner)) <= len(inner) / 2
    if recorded and pattern is None and not all(map(_is_part, called)):
        return (
            "If the innermost folders are subjects, say --set "
            "'source.pattern=(?P<label>[^/]+)/(.*/)?(?P<subject>[^/]+)/[^/]+'"
        )
    if all(numbered):
        return (
            "Say where they stand with the group subject of source.pattern; if numbers that follow each other may be of one "
            "person, --set split.strategy=blocks keeps neighbours together"
        )
    return "Say where they stand with the group subject of source.pattern"


def _refuse_other_layouts(root: Path, names: list[str], folders: set[str]) -> None:
    """Raise `SourceError` for ``folders`` that are no classes: a public set's, one around all."""
    told = ", ".join(sorted(folders))
    for source, others in PUBLIC.items():
        if folders - {"validation"} and folders - {"validation"} <= others:
            raise SourceError(f"{root} holds {told}, as the data set {source} does: use --source {source}")
    below = {name.split("/")[1] for name in names if name.count("/") > 1}
    if len(folders) == 1 and len(below) > 1 and all(name.count("/") > 1 for name in names):
        raise SourceError(f"{root} holds one folder, {told}: give that with --data {root / told}, or a table of labels")


def _refuse_groups(root: Path, labels: dict[str, str]) -> None:
    """Raise `SourceError` when the folders ``labels``, one a path, are parts of a split, or may be subjects or sites.

    What tells them from classes is that the same names stand inside several of them, and that none is a usual finding.
    """
    inside: dict[str, set[str]] = {folder: set() for folder in sorted(set(labels.values()))}
    for name, folder in labels.items():
        inside[folder] |= set(name.split("/")[1:-1][:1])
    holders = Counter(inner for names in inside.values() for inner in names)
    few = len(inside) >= SUBJECTS and 2 <= len(holders) <= len(inside) / 2
    recur = few or sum(count > 1 for count in holders.values()) > 1
    alike = len(holders) > 0 and len(set(map(frozenset, inside.values()))) == 1
    parts = sum(map(_is_part, inside))
    outer, inner = _some(inside), _some(sorted(holders))
    if len(inside) > 1 and parts and (parts == len(inside) or recur or alike):
        known = {folder.casefold() for folder in inside} <= SYNONYMS.keys()
        raise SourceError(
            f"the sub-folders of {root} are parts, no classes: {outer}. Say where the labels stand, such as "
            "--set 'source.pattern=(?P<part>[^/]+)/(?P<label>[^/]+)/.*'"
            + (", and, to keep these parts, --set split.strategy=column --set split.column=part" if known else "")
        )
    told = any(folder.casefold() in FINDINGS for folder in inside)
    if recur and not told and not all(map(_is_part, holders)):
        raise SourceError(
            f"the {len(inside)} sub-folders of {root} ({outer}) hold folders of the same names ({inner}), and either may be "
            f"the labels. If {inner} are, say so with --set 'source.pattern=(?P<subject>[^/]+)/(?P<label>[^/]+)/.*' where "
            f"{outer} are subjects, or with --set 'source.pattern=(?P<collection>[^/]+)/(?P<label>[^/]+)/.*' where they are "
            f"hospitals, devices or the like; if {outer} are, with --set 'source.pattern=(?P<label>[^/]+)/.*'"
        )


def _refuse_numbered(root: Path, folders: list[str]) -> None:
    """Raise `SourceError` when many ``folders`` are called alike but for a number: people or days more often than classes."""
    stems = {re.sub(r"\d+", "", folder).casefold() for folder in folders}
    if len(folders) >= NUMBERED and len(stems) == 1 and all(re.search(r"\d", folder) for folder in folders):
        raise SourceError(
            f"the {len(folders)} sub-folders of {root} are numbered ({_some(folders)}), as subjects are. If they are, the labels "
            f"must stand elsewhere: {_ways(root)}. If they are classes, say so with --set 'source.pattern=(?P<label>[^/]+)/.*'"
        )


def _is_part(folder: str) -> bool:
    """Whether ``folder`` is called like a part of a split."""
    return folder.casefold() in PARTS or re.fullmatch(r"fold[ _-]?\d+", folder.casefold()) is not None


def _some(names: Collection[str]) -> str:
    """The first few of ``names``."""
    return ", ".join(list(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")


def _refuse_ignored_table(root: Path, names: list[str]) -> None:
    """Raise `SourceError` when a table in ``root`` has a column of labels, and one of paths that are mostly of ``names``."""
    named = FileLookup(root, [root / name for name in names])
    for path in _tables(root):
        try:
            table = read_table(path, Columns(), None, {"path", "label"})
        except SourceError:
            continue
        columns = Columns().found(list(table.columns))
        if {"path", "label"} <= columns.keys():
            count = sum(bool(named.candidates(plain(re.split(r"[/\\]", cell)[-1]))) for cell in table[columns["path"]])
            if 2 * count > len(names):
                raise SourceError(
                    f"the sub-folders of {root} would be the labels, but {path.name} names {count} of its "
                    f"{len(names)} recordings, with labels in the column {columns['label']!r}: give it with --data {path}; "
                    "or, if the folders are the classes, say so with --set 'source.pattern=(?P<label>[^/]+)/.*'"
                )


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name.strip().replace("\\", "/"))
    return str(path).removesuffix(path.suffix)


def _tables(root: Path) -> list[Path]:
    """The files in ``root`` itself that may be tables, without hidden ones and the locks that Excel leaves."""
    return sorted(p for p in root.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith((".", "~")))


def _ways(root: Path) -> str:
    tables = _tables(root)
    table = f" {tables[0]}" if len(tables) == 1 else f", such as {root / 'recordings.csv'}"
    return (
        f"give the table of their labels with --data{table}; or put the recordings of each class into a sub-folder of "
        f"its name; or say which part of their names is the label, such as {EXAMPLE}"
    )


def _notes(root: Path, classes: Iterable[str], beside: list[str]) -> Iterable[str]:
    yield f"Labels are the names of the sub-folders of {root}: {', '.join(sorted(set(classes)))}"
    if tables := _tables(root):
        yield f"{tables[0]} was not read: if it holds the labels, give it with --data"
    if beside:
        yield f"{len(beside)} recordings lie in no sub-folder that names a class, and are unlabelled: {beside[0]}, ..."
