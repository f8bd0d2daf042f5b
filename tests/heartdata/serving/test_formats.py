"""Tables of predictions in each format, and names that are refused."""

from pathlib import Path

import pandas as pd
import pytest

from heartdata.errors import HeartbeatError
from heartdata.serving.formats import check_format, write_predictions

ROWS = pd.DataFrame({
    "file": ["é,1.wav", "b.wav"], "label": ["normal", None], "unsure": [False, True], "error": [None, 'too "short"'],
    "p_normal": [0.1 + 0.2, float("nan")],
})  # fmt: skip


@pytest.mark.parametrize(
    ("name", "read"), [("x.csv", pd.read_csv), ("x.PARQUET", pd.read_parquet), ("x.json", pd.read_json)]
)
def test_every_value_comes_back(tmp_path: Path, name: str, read):
    check_format(tmp_path / name)
    write_predictions(ROWS, tmp_path / name)
    back = read(tmp_path / name)
    assert list(back.columns) == list(ROWS.columns)
    pd.testing.assert_frame_equal(
        back.astype(object).where(back.notna(), None), ROWS.astype(object).where(ROWS.notna(), None)
    )
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x", "should end with .csv, .parquet or .json"),
        ("x.xlsx", "should end with"),
        ("s3://bucket/x.csv", "is not on this machine"),
    ],
)
def test_other_names_are_refused(name: str, message: str):
    with pytest.raises(HeartbeatError, match=message):
        check_format(Path(name))
