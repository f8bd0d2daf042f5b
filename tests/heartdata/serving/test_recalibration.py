"""Which of a user's recordings a model may be calibrated on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from helpers import beats, write_wav
from torchvision.models.resnet import BasicBlock, ResNet

from heartdata.audio.measurements import MeasureConfig, measure_file
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.checks.suite import RecordingBounds
from heartdata.errors import HeartbeatError
from heartdata.scoring.calibration import Calibration
from heartdata.serving.model_config import ModelConfig
from heartdata.serving.predictor import Predictor
from heartdata.serving.recalibration import OwnRecordings, own_recordings, refuse_unknown_labels
from heartdata.storage.hash_cache import sha256_of
from heartdata.storage.schemas import ACCEPTED, FACTS, RECORDINGS, TRAINED_ON
from heartdata.storage.store import table_from_rows


def listed(folder: Path) -> pa.Table:
    """Five recordings of four subjects: a and b of one, c without a label, d only 2 s long, e stereo."""
    rows = []
    for number, (name, label, subject) in enumerate(
        [("a", "normal", "p1"), ("b", "murmur", "p1"), ("c", None, "p2"), ("d", "normal", "p3"), ("e", "murmur", "p4")]
    ):
        samples = beats(duration_s=2.0 if name == "d" else 5.0, seed=number)
        path = write_wav(folder / f"{name}.wav", np.stack([samples, samples], 1) if name == "e" else samples)
        rows.append({
            "recording_id": name, "uri": str(path), "sha256": sha256_of(path), "source": "table", "collection": "",
            "label": label, "subject": subject,
        })  # fmt: skip
    return table_from_rows(rows, RECORDINGS)


@pytest.fixture
def predictor() -> Predictor:
    torch.manual_seed(0)
    config = ModelConfig(
        classes=("murmur", "normal"), width=64, spectrogram=SpectrogramConfig(), dataset_version="0", init="random",
        calibration=Calibration(temperature=3.0, class_weights=(1.0, 5.0)), accepts=RecordingBounds(min_duration_s=3.0),
    )  # fmt: skip
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=2)
    net.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    return Predictor(net.eval(), config)


def prepared(folder: Path) -> tuple[pa.Table, pd.DataFrame, pa.Table]:
    recordings = listed(folder)
    rows = recordings.to_pandas()
    facts = table_from_rows(
        [measure_file(uri, sha256, MeasureConfig()) for uri, sha256 in zip(rows["uri"], rows["sha256"], strict=True)],
        FACTS,
    )
    return recordings, rows.reindex(columns=ACCEPTED.names), facts


def test_recordings_are_left_out_with_the_reason(predictor: Predictor, tmp_path: Path):
    recordings, accepted, facts = prepared(tmp_path)
    of_another = table_from_rows([{"sha256": "0" * 64, "subject": "table/p4"}], TRAINED_ON)
    own = own_recordings(predictor, recordings, accepted, facts, of_another, 0.98)
    assert own.rows["recording_id"].tolist() == ["a", "b"]
    assert own.rows["group"].nunique() == 1
    (trained_on,) = (names for why, names in own.left_out.items() if "trained on" in why)
    (refused,) = (names for why, names in own.left_out.items() if "refuses" in why)
    assert (own.left_out["they have no label"], trained_on, refused) == (["c"], ["e"], ["d"])
    raw = predictor.config.model_copy(update={"calibration": Calibration()})
    expected = [p.probabilities for p in Predictor(predictor.net, raw).predict(
        [(tmp_path / f"{name}.wav").read_bytes() for name in "ab"])]  # fmt: skip
    assert np.allclose(own.probabilities, expected, atol=1e-6)
    seen = own.provenance_with(of_another, facts).to_pandas()
    assert sorted(seen["sha256"]) == sorted(["0" * 64, *own.rows["sha256"]])


def test_too_few_are_left_where_the_model_was_trained_on_all(predictor: Predictor, tmp_path: Path):
    recordings, accepted, facts = prepared(tmp_path)
    own = own_recordings(
        predictor,
        recordings,
        accepted,
        facts,
        table_from_rows([{"sha256": s} for s in accepted["sha256"]], TRAINED_ON),
        0.98,
    )
    with pytest.raises(HeartbeatError, match="only 0 recordings of 0 subjects are left"):
        own.check_enough("models:/m/1")


def test_a_copy_with_another_header_counts_as_trained_on(predictor: Predictor, tmp_path: Path):
    recordings, accepted, facts = prepared(tmp_path)
    row = facts.to_pandas().set_index("sha256").loc[accepted["sha256"][0]]
    copy = {"sha256": "1" * 64, "samples_sha256": row["samples_sha256"], "fingerprint": row["fingerprint"]}
    own = own_recordings(predictor, recordings, accepted, facts, table_from_rows([copy], TRAINED_ON), 0.98)
    assert "a" not in own.rows["recording_id"].tolist()


@pytest.mark.parametrize(
    ("labels", "subjects", "message"),
    [
        (["a"] * 9, 9, "only 9 recordings of 9 subjects are left to calibrate models:/m/1 on, and 10 of 5 are needed"),
        (["a"] * 12, 4, "only 12 recordings of 4 subjects are left"),
        (["a"] * 12, 12, "all 12 recordings that are left are labelled a: give recordings of at least two classes"),
    ],
)
def test_too_few_recordings_are_refused(labels: list[str], subjects: int, message: str):
    rows = pd.DataFrame({"label": labels, "group": [str(i % subjects) for i in range(len(labels))]})
    with pytest.raises(HeartbeatError, match=message):
        OwnRecordings(rows, np.empty((len(rows), 2)), {}).check_enough("models:/m/1")


def test_unknown_labels_are_refused_with_the_setting_that_renames_them(tmp_path: Path):
    recordings = listed(tmp_path)
    refuse_unknown_labels(recordings, ("murmur", "normal"), "models:/m/1")
    with pytest.raises(
        HeartbeatError, match="'murmur' is no class of models:/m/1, which has MR, normal: .*{murmur: MR}"
    ):
        refuse_unknown_labels(recordings, ("MR", "normal"), "models:/m/1")
