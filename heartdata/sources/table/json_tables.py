"""JSON as a table: lines of objects, a list of them, or columns as pandas writes them."""

import json
from typing import Any

import pandas as pd

from heartdata.errors import SourceError
from heartdata.sources.base import AUDIO_SUFFIXES
from heartdata.sources.table.columns import Columns, distinct, no_paths

SHAPES = 'write one object per recording, as in {"path": "1.wav", "label": "normal"}'


def read_json(path: str, text: str, columns: Columns) -> pd.DataFrame:
    """The table in ``text``, as text, absent values empty. Numbers stay as they are written. ``path`` is for messages.

    Raises `SourceError` for JSON that is no table, or with lists or objects in place of paths.
    """
    content = _parsed(path, text.removeprefix("\ufeff"))
    if isinstance(content, dict):
        content = _records(content, columns)
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise SourceError(f"{path} is JSON of another shape than a table: {SHAPES}")
    cells = [{str(name): _only(cell) for name, cell in _flat(row).items()} for row in content]
    column = columns.resolve(list(dict.fromkeys(name for row in cells for name in row))).get("path")
    if column and any(isinstance(row.get(column), list | dict) for row in cells):
        raise SourceError(no_paths(path, column))
    rows = [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in cells]
    frame = pd.DataFrame(rows, dtype="object").fillna("").astype(str)
    frame.columns = distinct(list(frame.columns))
    return frame[(frame != "").any(axis="columns")].reset_index(drop=True) if len(frame.columns) else frame


def _parsed(path: str, text: str) -> Any:
    """The value in ``text``, or a list of the values of its lines."""

    def loads(text: str) -> Any:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=lambda _: None)

    try:
        return loads(text)
    except json.JSONDecodeError as whole:
        values: list[Any] = []
        for number, line in enumerate(text.splitlines(), 1):
            try:
                values += [loads(line)] if line.strip() else []
            except json.JSONDecodeError as error:
                place = f"line {number}: {error.msg}" if values else f"line {whole.lineno}: {whole.msg}"
                raise SourceError(f"{path} is not JSON ({place}): {SHAPES}") from error
        return values


def _records(content: dict[str, Any], columns: Columns) -> Any:
    """The rows of an object of columns, of rows by path, or around a table; anything else as it is."""
    values = list(content.values())
    if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):  # pandas' split
        return [dict(zip(content["columns"], row, strict=False)) for row in content["data"]]
    tables = [value for value in values if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(tables) == 1:  # {"recordings": [...], "version": 1}
        return tables[0]
    if not columns.resolve(list(content)) and all(isinstance(v, list) and v and all(map(_is_audio, v)) for v in values):
        return [
            {"path": file, "label": label} for label, files in content.items() for file in files
        ]  # {"normal": ["1.wav"]}
    if values and all(isinstance(value, list) for value in values) and len(set(map(len, values))) == 1:
        return [dict(zip(content, row, strict=True)) for row in zip(*values, strict=True)]
    if values and all(isinstance(value, dict) for value in values):
        if columns.resolve(list(values[0])):  # {"1.wav": {"label": "normal"}}
            return [{"path": key} | value for key, value in content.items()]
        keys = dict.fromkeys(key for value in values for key in value)
        return [{name: value.get(key) for name, value in content.items()} for key in keys]
    if any(key.lower().endswith(AUDIO_SUFFIXES) for key in content) and all(isinstance(v, str) for v in values):
        return [{"path": key, "label": value} for key, value in content.items()]  # {"1.wav": "normal"}
    return [content] if columns.resolve(list(content)) else content


def _flat(row: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"audio": {"path": 1}}`` as ``{"audio.path": 1}``, and a list of audio files as numbered columns."""
    cells: dict[str, Any] = {}
    for name, cell in row.items():
        if isinstance(cell, list) and len(cell) > 1 and str(cell[0]).lower().endswith(AUDIO_SUFFIXES):
            cell = {str(number): file for number, file in enumerate(cell, 1)}
        cells |= _flat(cell, f"{prefix}{name}.") if isinstance(cell, dict) else {f"{prefix}{name}": cell}
    return cells


def _is_audio(cell: Any) -> bool:
    return isinstance(cell, str) and cell.lower().endswith(AUDIO_SUFFIXES)


def _only(cell: Any) -> Any:
    """The value of a list of one."""
    return cell[0] if isinstance(cell, list) and len(cell) == 1 else cell
