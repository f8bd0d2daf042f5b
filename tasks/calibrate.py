"""Stage 7, after training: how probabilities become answers, fitted to the validation part."""

from collections.abc import Sequence

import pandas as pd

from heartdata.audio.measurements import MeasureConfig
from heartdata.checks.suite import RecordingBounds
from heartdata.scoring.calibration import Calibration, DecisionConfig
from heartdata.storage.schemas import MANIFEST
from heartdata.storage.store import Artifact, Store
from tasks.engine.progress import track
from tasks.engine.stage import LONG_S, stage
from tasks.results import TrainedModel
from tasks.train import write_model_config

FEW = 5  # recordings of a class


@stage("calibrate", timeout_s=LONG_S)
def calibrate(
    manifest: Artifact, model: TrainedModel, config: DecisionConfig, measure: MeasureConfig, accepts: RecordingBounds,
    store: Store,
) -> TrainedModel:  # fmt: skip
    """The model with a temperature, an operating point and a bound of confidence, fitted to its validation part.

    It answers for no recording that is outside the bounds ``accepts`` when measured by ``measure``.
    """
    from heartdata.scoring.calibration import fit_calibration
    from heartdata.serving.predictor import Predictor, predict_probabilities

    with track("calibrate") as advance:
        table = store.read_frame(manifest, MANIFEST)
        rows = table[table["part"] == "valid"].reset_index(drop=True)
        predictor = Predictor.load(store.local(model.weights.name), store.local(model.config.name))
        found = fit_calibration(predict_probabilities(predictor, rows, store), rows, list(model.classes), config)
        unsure = f"unsure below {found.unsure_below:.2f}" if found.unsure_below else "no answer is unsure"
        advance(1, 1, f"temperature {found.temperature:.2f}, {unsure}")
        answering = {"calibration": found, "measure": measure, "accepts": accepts}
        kept = write_model_config(predictor.config.model_copy(update=answering), store)
        note = "\n".join(filter(None, [model.note, doubt(found, config), few(rows["label"], model.classes, config)]))
        return model.model_copy(update={"config": kept, "note": note})


def doubt(found: Calibration, config: DecisionConfig) -> str:
    """A warning where probabilities tell nothing, or the share of wrong answers that was asked for cannot be had."""
    from heartdata.scoring.calibration import TEMPERATURES

    doubts = []
    if found.temperature > 0.99 * TEMPERATURES[1]:
        doubts.append("On the validation part the network's probabilities tell no more than equal ones would")
    if found.risk > config.max_risk:
        doubts.append(
            f"{_which(found.coverage)} {found.risk:.0%} are wrong, more than "
            f"decision.max_risk = {config.max_risk:.0%}: an answer that is not unsure is no more to be relied on than that"
        )
    return "\n".join(doubts)


def _which(coverage: float) -> str:
    every = coverage > 0.995
    return "Of the validation answers" if every else f"Even of the surest {coverage:.0%} of the validation answers"


def few(labels: pd.Series, classes: Sequence[str], config: DecisionConfig) -> str:
    """A warning where so few validation recordings have a label, or none, that what is fitted to them is luck."""
    count = labels.value_counts().reindex(list(classes), fill_value=0)
    if count.min() >= FEW:
        return ""
    fitted = ["the temperature"] if config.temperature else []
    fitted += ["the operating point"] if config.operating_point != "none" else []
    return (
        f"Only {count.min()} of the {len(labels)} validation recordings are {count.idxmin()}: do not rely on what is "
        f"fitted to them ({', '.join([*fitted, 'the bound of unsure answers'])})"
    )
