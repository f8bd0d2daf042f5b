"""CSV for people: spreadsheets run a cell that begins with =, +, - or @ as a formula, so such text begins with an apostrophe."""

import re

import pandas as pd

_FORMULA = re.compile(r"(?='*[=+\-@\t\n])")
_ESCAPED = re.compile(r"'(?='*[=+\-@\t\n])")


def csv_text(frame: pd.DataFrame) -> str:
    """The table as CSV; its columns of numbers stay as they are."""
    return frame.rename(columns=_as_text).map(_as_text).to_csv(index=False)


def unescaped(text: str) -> str:
    """A cell of `csv_text` as it was in the table."""
    return _ESCAPED.sub("", text, count=1) if _ESCAPED.match(text) else text


def _as_text(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r", "\n")  # pandas does not quote a carriage return, which would end the row
    return f"'{text}" if _FORMULA.match(text) else text
