"""The file formats of a table of predictions."""

import json
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from heartdata.errors import HeartbeatError
from heartdata.storage.csv_text import csv_text
from heartdata.storage.store import atomic_write

FORMATS = (".csv", ".parquet", ".json")


def check_format(out: Path) -> None:
    """Raises `HeartbeatError` unless predictions can be written to a file of this name."""
    if re.match(r"\w{2,}:/", str(out)):
        raise HeartbeatError(f"--out {out} is not on this machine: name a file in a folder")
    if out.suffix.lower() not in FORMATS:
        raise HeartbeatError(f"--out {out} should end with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}: rename it")


def write_predictions(frame: pd.DataFrame, out: Path) -> None:
    """Write the table as CSV, Parquet or JSON (a list of rows), by the ending of ``out``; whole or not at all."""
    suffix = out.suffix.lower()
    with atomic_write(out) as file:
        if suffix == ".parquet":
            pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), file)
        elif suffix == ".json":
            rows = frame.astype(object).where(frame.notna(), None).to_dict("records")  # NaN is no JSON
            file.write(json.dumps(rows, ensure_ascii=False, indent=1, allow_nan=False).encode())
        else:
            file.write(csv_text(frame).encode())
