"""The card states the run's own numbers, its limits, and shows labels as they are written."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from markdown_it import MarkdownIt

import heartdata
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.config_file import build_config
from heartdata.reports.model_card import CUT, CardInputs, description, headline, model_card
from heartdata.scoring.calibration import Calibration
from heartdata.serving.model_config import ModelConfig

TEMPLATE = (Path(heartdata.__file__).parents[1] / "mlflow" / "model_card.md").read_text()
ODD = "a|b <script>*x*"


def inputs(source: str = "cinc2016", data: str | None = ".", **changes) -> CardInputs:
    labels = ["normal", ODD] * 10
    manifest = pd.DataFrame({
        "recording_id": [f"r{i}" for i in range(20)], "source": source, "collection": ["training-a", None] * 10,
        "subject": [None, *(f"s{i}" for i in range(19))], "group": [f"g{i // 2}" for i in range(20)], "site": "AV",
        "label": labels, "part": ["train"] * 12 + ["test"] * 8, "rate_hz": [2000, 4000] * 10, "duration_s": 10.0,
    })  # fmt: skip
    recordings = pd.DataFrame(
        {"excluded": [None] * 22 + ["excluded by A: cough"], "extra": ["{}"] * 21 + ['{"corrected": "by A"}'] * 2}
    )
    metrics = pd.DataFrame({
        "model": ["resnet34", "metadata only"] * 2, "metric": ["macro_f1"] * 2 + ["auroc"] * 2,
        "value": [0.75, 0.5, 0.9, float("nan")], "low": 0.4, "high": 0.95,
    })  # fmt: skip
    model = ModelConfig(
        classes=("normal", ODD), width=128, spectrogram=SpectrogramConfig(), dataset_version="d" * 64, init="imagenet",
        calibration=Calibration(temperature=1.25, class_weights=(1.0, 2.0), unsure_below=0.6),
    )  # fmt: skip
    given = CardInputs(
        config=build_config(source, data), model=model, recordings=recordings, accepted=20, manifest=manifest,
        metrics=metrics, slices=pd.DataFrame(), per_class={"normal": {"f1": 0.8, "recordings": 4}, ODD: {"f1": 0.7, "recordings": 4}},
        confidence={"ece_10_bins": 0.0444, "brier": float("nan"), "coverage": 0.75, "risk": 0.1},
        usage="Research use only", identity={"weights sha256": "f" * 64},
    )  # fmt: skip
    return replace(given, **changes)


def test_the_card_states_the_runs_numbers():
    card = model_card(inputs(), TEMPLATE)
    flat = " ".join(card.split())
    for text in (
        "macro-F1 0.750 (0.400-0.950) on held-out subjects", "4 subjects (8 recordings)", "temperature 1.25",
        "calibration error is 0.044", "Brier score unknown", "decided 75%", "10% of these decisions were wrong",
        "23 recordings were found, 2 refused by the checks, 1 left out by people, 2 given another label",
        "20 used", "ODC-By 1.0", "weights trained on ImageNet", "Only 4 subjects are held out",
        "The subject of 1 of 20 recordings is unknown", "below 0.600 are *unsure*", "and no near-duplicates", "f" * 64, "scores for groups of people, devices or sites are unknown",
    ):  # fmt: skip
        assert text in flat, text
    assert "synthetic" not in flat


def test_what_was_not_done_is_not_claimed():
    config = build_config("cinc2016", ".", changes={"validation.near_duplicates": "off"})
    given = inputs()
    model = given.model.model_copy(update={"calibration": Calibration()})
    card = model_card(inputs(config=config, model=model), TEMPLATE)
    assert "near-duplicates were not looked for" in card
    assert "no near-duplicates" not in card
    assert "; no decision is *unsure*." in card


def test_synthetic_recordings_are_said_to_be():
    assert "nothing about people" in model_card(inputs("demo", None), TEMPLATE)


def test_slices_are_shown_with_their_size():
    rows = pd.DataFrame([{"attribute": "sex", "slice": s, "recordings": 4, "subjects": 2, "metric": m, "value": 0.5,
                          "low": 0.1, "high": 0.9} for s in ("female", "male") for m in ("macro_f1", "accuracy")])  # fmt: skip
    card = model_card(inputs(slices=rows), TEMPLATE)
    assert "| sex | female | 4 | 2 | 0.500 (0.100-0.900) | 0.500 (0.100-0.900) |" in card
    assert "devices or sites are unknown" not in card


def test_labels_are_shown_as_they_are():
    html = MarkdownIt("commonmark").enable("table").render(model_card(inputs(), TEMPLATE))
    assert "<script>" not in html
    assert "a|b &lt;script&gt;*x*" in html
    assert "<em>x</em>" not in html
    assert html.count("<h2>") == 8


@pytest.mark.parametrize("length", [3500, 2500, 900])
def test_a_long_description_ends_with_a_whole_section(length: int):
    card = model_card(inputs(), TEMPLATE)
    short = description(card, length)
    assert len(short) <= length
    body = short.removesuffix(CUT)
    assert body != short
    assert body.startswith(headline(inputs())[:20])
    assert card.partition(body)[2].lstrip().startswith("## ")
    assert description(card, 10**6) == card.partition("\n")[2].lstrip()
