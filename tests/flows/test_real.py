"""The whole flow on real recordings of PASCAL set B (skipped where ../shared/data is absent)."""

import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers import REAL, TINY, needs_pascal, registry

from flows.pipeline import heartbeat
from heartdata.config_file import build_config
from heartdata.sources.pascal import PascalSource, file_key

pytestmark = [needs_pascal, pytest.mark.data, pytest.mark.usefixtures("prefect_server")]
PER_CLASS = 12


@pytest.fixture
def subset(tmp_path: Path) -> Path:
    """A folder in the challenge's layout with twelve recordings of each class of set B."""
    listing = PascalSource(data=REAL / "pascal", sets=("set_b",)).listing(tmp_path)
    labelled = pd.DataFrame([(r.path, r.label) for r in listing.recordings if r.label], columns=["path", "label"])
    chosen = labelled.groupby("label").head(PER_CLASS)
    (tmp_path / "set_b").mkdir()
    for path in chosen["path"]:
        shutil.copy(path, tmp_path / "set_b")
    table = pd.read_csv(REAL / "pascal" / "set_b.csv", dtype=str)
    keys = set(chosen["path"].map(lambda path: file_key(path.name)))
    table[table["fname"].map(file_key).isin(keys)].to_csv(tmp_path / "set_b.csv", index=False)
    return tmp_path


def test_a_model_is_trained_on_real_recordings_and_registered(subset: Path, tmp_path: Path):
    settings = {key: value for key, value in TINY.items() if not key.startswith("source.")}
    changes = {**settings, "source.sets": ["set_b"], "store": str(tmp_path / "out")}
    summary = heartbeat(build_config("pascal", str(subset), changes=changes))

    counts = {row["label"]: row for row in summary.recordings}
    assert {name: row["found"] for name, row in counts.items()} == {
        "extrastole": PER_CLASS, "murmur": PER_CLASS, "normal": PER_CLASS, "all": 3 * PER_CLASS,
    }  # fmt: skip
    quarantine = pd.read_parquet(tmp_path / "out" / "latest" / "quarantine.parquet")
    assert len(quarantine["recording_id"].unique()) == counts["all"]["quarantined"]
    manifest = pd.read_parquet(tmp_path / "out" / "latest" / "manifest.parquet")
    assert len(manifest) == counts["all"]["in use"] >= 30
    assert manifest.groupby("subject")["part"].nunique().max() == 1
    assert manifest.groupby("part")["label"].nunique().eq(3).all()

    registry(tmp_path / "out")
    model = mlflow.pyfunc.load_model("models:/heartbeat@challenger")
    tested = manifest[manifest["part"] == "test"]
    served = model.predict(pd.DataFrame({"audio": [(subset / i).read_bytes() for i in tested["recording_id"]]}))
    predictions = pd.read_parquet(tmp_path / "out" / "latest" / "predictions.parquet").set_index("recording_id")
    evaluated = predictions.loc[tested["recording_id"]]
    assert served["label"].tolist() == evaluated["prediction"].tolist()
    names = [name for name in evaluated.columns if name.startswith("p_")]
    assert np.abs(served[names].to_numpy() - evaluated[names].to_numpy()).max() <= 1e-5

    labels_of = tested.groupby("subject")["label"].agg(["nunique", "size"])
    one_label = labels_of[labels_of["nunique"] == 1]
    subjects = pd.read_parquet(tmp_path / "out" / "latest" / "subjects.parquet").set_index("subject")
    assert subjects["recordings"].to_dict() == {f"pascal/{s}": n for s, n in one_label["size"].items()}
    ours = {row["metric"]: row["value"] for row in summary.scores if row["model"] == "resnet34"}
    assert subjects["recordings"].max() > 1
    assert ours["accuracy_by_subject"] == pytest.approx((subjects["label"] == subjects["prediction"]).mean())
