"""Recordings whose labels are in the names of folders or files: one sub-folder per class, or a pattern."""

import os
import re
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePosixPath

import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources import pascal
from heartdata.sources.base import find_files, names_below
from heartdata.sources.cinc2016.databases import DATABASES
from heartdata.sources.circor2022.source import FOLDER
from heartdata.sources.table.columns import ROLES, Columns, Entry
from heartdata.sources.table.file_lookup import FileLookup
from heartdata.sources.table.readers import JSON, OTHER_BOOKS, SUFFIXES, read_table
from heartdata.sources.text import clean_cell, quoted, shortened
from heartdata.storage.schemas import PART_NAMES

PUBLIC = {
    "cinc2016": set(DATABASES),
    "pascal": {*pascal.FOLDERS, *pascal.FOLDERS["set_a"], *pascal.FOLDERS["set_b"]},
    "circor2022": {FOLDER},
}
PART_FOLDERS = (*PART_NAMES, "eval", "evaluation", "unseen")  # and fold1, fold2, ...
FINDINGS = ("normal", "abnormal", "healthy", "pathological", "murmur", "murmurs", "artifact", "artefact", "noise")
NUMBERED = 6  # from so many folders on that differ only in a number, they are probably not classes
EXAMPLES = 4  # folders named in a message
MOST_READ = 20  # files that may be tables, of those below a folder
PATTERN = "--set 'source.pattern=(?P<{}>[^/]+)/(?P<label>[^/]+)/.*'"
BY_FOLDER = "--set 'source.pattern=(?P<label>[^/]+)/.*'"
NO_TABLE = "make a table with a row per recording, with columns path and label, and give it with --data"
SUBJECTS_HINT = "Say where they are with the group subject of source.pattern"
FOLDERS_HINT = (
    f"{SUBJECTS_HINT}: if the innermost folders are subjects, --set "
    "'source.pattern=(?P<label>[^/]+)/(.*/)?(?P<subject>[^/]+)/[^/]+'. If numbers that follow each other may be of one "
    "person, --set split.strategy=blocks keeps neighbours together"
)


def checked_pattern(pattern: str, needs_label: bool) -> str:
    """The pattern itself; raises ValueError when it is not a regular expression or lacks a needed group."""
    try:
        names = pattern_groups(pattern)
    except re.error as error:
        raise ValueError(f"this is not a regular expression ({error})") from error
    if needs_label and "label" not in names:
        raise ValueError("add a group (?P<label>...) for the part of a path that is the label")
    if not names & set(ROLES):
        raise ValueError(f"add a group (?P<NAME>...), where NAME is one of {', '.join(ROLES)}")
    return pattern


def pattern_groups(pattern: str | None) -> set[str]:
    """The names of the groups of ``pattern``."""
    return set(re.compile(pattern or "").groupindex)


def read_names(pattern: str, names: list[str]) -> tuple[list[dict[str, str]], list[str]]:
    """The text of each group of ``pattern`` in each path, and a note on the paths that it does not match.

    It must match the whole path without its suffix, with slashes between folders. Raises `SourceError` when it matches
    none.
    """
    matches = [re.fullmatch(pattern, _without_suffix(name)) for name in names]
    unmatched = [name for name, match in zip(names, matches, strict=True) if match is None]
    if unmatched and len(unmatched) == len(names):
        raise SourceError(
            f"source.pattern={pattern} matches none of {len(names)} paths, such as {quoted(_without_suffix(names[0]))}: "
            "it must match the whole path below the folder, without the suffix"
        )
    texts = [{k: v for k, v in match.groupdict().items() if v is not None} if match else {} for match in matches]
    note = "{} of {} paths do not match source.pattern, so nothing was taken from them: {}, ..."
    return texts, [note.format(len(unmatched), len(names), shortened(unmatched[0]))] if unmatched else []


def read_folder(root: Path, pattern: str | None) -> tuple[list[Entry], list[str]]:
    """Every recording below ``root`` with the roles that are in its path, and notes; raises `SourceError` for no labels."""
    files = find_files(root)
    left_out = files.left_out(companions=True, read=_tables(root))
    audio = zip(names_below(root, files.audio), files.audio, strict=True)
    by_name = {name: file for name, file in audio if "/." not in f"/{name}"}
    names = list(by_name)
    if not names and any(path.suffix.lower() == ".arrow" for path in files.others):
        raise SourceError(
            f"{root} holds Arrow files, as datasets' save_to_disk writes them: save each as Parquet with to_parquet, and give "
            "the folder of those"
        )
    if not names:
        raise SourceError(f"{root} is a folder without recordings: {'. '.join([_ways(root), *left_out])}")
    if pattern is not None:
        texts, notes = read_names(pattern, names)
        entries = [Entry.of(name, text, _existing(by_name[name])) for name, text in zip(names, texts, strict=True)]
        return entries, [*notes, *left_out]
    outer = {name: name.partition("/")[0] for name in names if "/" in name}
    _refuse_other_layouts(root, names, set(outer.values()))
    labels = {name: label for name, label in outer.items() if "unlabel" not in label.casefold()}
    _refuse_ambiguous(root, labels)
    if len(set(labels.values())) < 2:
        raise SourceError(f"{root} is a folder without one sub-folder of recordings for each class: {_ways(root)}")
    _refuse_ignored_table(root, list(by_name.values()))
    notes = [f"Labels are the names of the sub-folders of {root}: {', '.join(sorted(set(labels.values())))}"]
    if tables := _tables(root):
        were = "was not read: if it holds" if len(tables) == 1 else "were not read: if one holds"
        notes.append(f"{_some(list(map(str, tables)))} {were} the labels, give it with --data")
    if unlabelled := [name for name in names if name not in labels]:
        notes.append(
            f"{len(unlabelled)} recordings are in no sub-folder of a class, and are unlabelled: {unlabelled[0]}, ..."
        )
    notes += left_out
    roles = [{"label": labels[name]} if name in labels else {} for name in names]
    return [Entry(name, cells, {}, _existing(by_name[name])) for name, cells in zip(names, roles, strict=True)], notes


def _existing(file: Path) -> Path | None:
    """The file itself, unless it is a broken link."""
    return file if os.path.isfile(file) else None  # noqa: PTH113 (twice as fast)


def _refuse_other_layouts(root: Path, names: list[str], folders: set[str]) -> None:
    """Raise `SourceError` when ``folders`` are those of a public data set, or one folder around all classes."""
    listed = ", ".join(sorted(folders))
    for source, others in PUBLIC.items():
        if folders - {"validation"} and folders - {"validation"} <= others:
            raise SourceError(f"{root} holds {listed}, as the data set {source} does: use --source {source}")
    below = {name.split("/")[1] for name in names if name.count("/") > 1}
    if len(folders) == 1 and len(below) > 1 and all(name.count("/") > 1 for name in names):
        raise SourceError(f"{root} holds one folder, {listed}: use --data {root / listed}, or a table of labels")


def _refuse_ambiguous(root: Path, labels: dict[str, str]) -> None:
    """Raise `SourceError` when the folders in ``labels`` (by path) may be parts of a split, subjects or sites."""
    inside: dict[str, set[str]] = {folder: set() for folder in sorted(set(labels.values()))}
    for name, folder in labels.items():
        inside[folder] |= set(name.split("/")[1:-1][:1])
    counts = Counter(inner for names in inside.values() for inner in names)
    parts = sum(map(_is_part, inside))
    same_inside = bool(counts) and all(names == counts.keys() for names in inside.values())
    has_finding = any(folder.casefold() in FINDINGS for folder in inside)
    stems = {re.sub(r"\d+", "", folder).casefold() for folder in inside}
    if len(inside) > 1 and parts and (parts == len(inside) or same_inside):
        reason = "are named like parts of a split"
    elif sum(count > 1 for count in counts.values()) > 1 and not has_finding and not all(map(_is_part, counts)):
        reason = f"hold folders of the same names ({_some(sorted(counts))}), which may be the labels"
    elif len(inside) >= NUMBERED and len(stems) == 1 and all(re.search(r"\d", folder) for folder in inside):
        reason = "are numbered, as subjects are"
    else:
        return
    is_known = {folder.casefold() for folder in inside} <= PART_NAMES.keys()
    keep = " --set split.strategy=column --set split.column=part" if is_known else ""
    raise SourceError(
        f"the {len(inside)} sub-folders of {root} ({_some(inside)}) {reason}, so they may not be classes. If they are classes, "
        f"use {BY_FOLDER}; if they are subjects with folders of labels inside, {PATTERN.format('subject')}; if hospitals, "
        f"devices or the like, {PATTERN.format('collection')}; if parts of a split, {PATTERN.format('part')}{keep}; if the "
        f"labels are elsewhere, {_ways(root)}"
    )


def _is_part(folder: str) -> bool:
    """Whether ``folder`` is named like a part of a split."""
    return folder.casefold() in PART_FOLDERS or re.fullmatch(r"fold[ _-]?\d+", folder.casefold()) is not None


def _some(names: Collection[str]) -> str:
    return ", ".join(list(names)[:EXAMPLES]) + (", ..." if len(names) > EXAMPLES else "")


def _refuse_ignored_table(root: Path, files: list[Path]) -> None:
    """Raise `SourceError` when a table in ``root`` has labels of most of the recordings ``files``."""
    lookup = FileLookup(root, files)
    for path in _tables(root):
        if (labelled := _with_labels(path)) is None:
            continue
        table, columns = labelled
        names = [clean_cell(re.split(r"[/\\]", cell)[-1]) for cell in table[columns["path"]]]
        count = sum(bool(lookup.candidates(name)) for name in names)
        if 2 * count > len(files):
            raise SourceError(
                f"the sub-folders of {root} would be the labels, but {path.name} names {count} of its {len(files)} "
                f"recordings, with labels in the column {quoted(columns['label'])}: use --data {path}; or, if the folders are "
                f"the classes, {BY_FOLDER}"
            )


def _with_labels(path: Path) -> tuple[pd.DataFrame, dict[str, str]] | None:
    """A file as a table, and its columns by role; None if it is no table with columns of a path and a label."""
    try:
        table, _ = read_table(path, Columns(), None, {"path", "label"})
    except SourceError:
        return None
    columns = Columns().resolve(list(table.columns))
    return (table, columns) if {"path", "label"} <= columns.keys() else None


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name.strip().replace("\\", "/"))
    return str(path).removesuffix(path.suffix)


def _tables(root: Path) -> list[Path]:
    """The files in ``root`` itself that may be tables, without hidden ones and Excel's lock files."""
    return sorted(filter(_may_be_table, root.iterdir()))


def _may_be_table(path: Path) -> bool:
    return path.suffix.lower() in (*SUFFIXES, *OTHER_BOOKS) and not path.name.startswith((".", "~"))


def _ways(root: Path) -> str:
    found = _tables(root) or sorted(filter(_may_be_table, find_files(root).others))
    found.sort(key=lambda path: path.suffix.lower() in JSON)  # most of which are no tables
    labelled = [path for path in found[:MOST_READ] if _with_labels(path)]
    tables = [f"--data {table}" for table in labelled or found]
    table = f"give the table of their labels with {' or '.join(tables[:EXAMPLES])}" if tables else NO_TABLE
    return (
        f"{table}; or put the recordings of each class into a sub-folder with its name; or say which part of their names is "
        "the label, such as --set 'source.pattern=(.*/)?(?P<label>[^_/]+)_.*' if they are like normal_01.wav"
    )
