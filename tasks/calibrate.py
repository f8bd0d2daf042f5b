"""After training: how probabilities become decisions, fitted to the validation part."""

from collections.abc import Sequence

import pandas as pd

from heartdata.audio.measurements import MeasureConfig
from heartdata.checks.suite import RecordingBounds
from heartdata.scoring.calibration import TEMPERATURES, Calibration, DecisionConfig
from heartdata.storage.schemas import MANIFEST, predictions_schema
from heartdata.storage.store import Artifact, Store, table_from_frame
from tasks.engine.progress import track
from tasks.engine.stage import LONG_S, stage
from tasks.results import TrainedModel
from tasks.train import write_model_config

FEW, FEW_IN_ALL = 5, 30  # validation recordings of a class, and of all


@stage("calibrate", timeout_s=LONG_S)
def calibrate(
    manifest: Artifact, model: TrainedModel, config: DecisionConfig, measure: MeasureConfig, accepts: RecordingBounds,
    store: Store,
) -> TrainedModel:  # fmt: skip
    """The model with a temperature, an operating point and a confidence threshold, fitted to its validation part.

    Served, it refuses recordings that are outside the bounds ``accepts`` when measured by ``measure``.
    """
    from heartdata.scoring.calibration import fit_calibration
    from heartdata.scoring.metrics import calibrated_rows
    from heartdata.serving.predictor import Predictor, predict_probabilities

    table = store.read_frame(manifest, MANIFEST)
    rows = table[table["part"] == "valid"].reset_index(drop=True)
    with track("calibrate", len(rows), "recordings") as advance:
        predictor = Predictor.load(store.verified(model.weights), store.verified(model.config))
        probabilities = predict_probabilities(predictor, rows, store, advance)
        classes = list(model.classes)
        fitted = fit_calibration(probabilities, rows, classes, config)
        unsure = f"unsure below {fitted.unsure_below:.2f}" if fitted.unsure_below else "no decision is unsure"
        advance(len(rows), len(rows), f"temperature {fitted.temperature:.2f}, {unsure}")
        calibrated = predictor.config.model_copy(update={"calibration": fitted, "measure": measure, "accepts": accepts})
        notes = [*model.note.splitlines(), *notes_on(fitted, rows["label"], model.classes, config)]
        schema = predictions_schema(classes)
        validation = table_from_frame(calibrated_rows(rows, probabilities, classes, fitted), schema)
        return model.model_copy(
            update={
                "config": write_model_config(calibrated, store),
                "validation": store.write_table("predictions", validation, schema),
                "note": "\n".join(notes),
            }
        )


def notes_on(fitted: Calibration, labels: pd.Series, classes: Sequence[str], config: DecisionConfig) -> list[str]:
    """Warnings: a temperature at its bound, a risk above the one asked for, few validation recordings, whose labels are
    ``labels``, in all or of a class.
    """
    notes = []
    if fitted.temperature > 0.99 * TEMPERATURES[1]:
        notes.append(
            f"The temperature is at its upper bound, {TEMPERATURES[1]:g}: on the validation part the network is as often "
            "wrong where it is confident as elsewhere, so the probabilities are scaled to almost equal ones; they still "
            "rank recordings (see the AUROC), but say nothing about how sure a prediction is"
        )
    if fitted.risk > config.max_risk:
        wrong, limit = f"{100 * fitted.risk:.0f} %", f"decision.max_risk = {100 * config.max_risk:.0f} %"
        if fitted.unsure_below:
            notes.append(
                f"Decisions that are not unsure are wrong more often than {limit}: in validation, {wrong} of the "
                f"{100 * fitted.coverage:.0f} % most confident were; check each, or lower decision.min_coverage"
            )
        else:
            notes.append(
                f"No prediction is marked unsure, as no confidence bound lowers the errors: in validation {wrong} of the "
                f"predictions were wrong, more than {limit}; check each, whatever its probability"
            )
    count = labels.value_counts().reindex(list(classes), fill_value=0)
    few = f"{count.min()} of the {len(labels)} validation recordings are {count.idxmin()}"
    if count.min() >= FEW:
        few = f"{len(labels)} recordings are in the validation part"
    if count.min() < FEW or len(labels) < FEW_IN_ALL:
        uncertain = ["the temperature"] if config.temperature else []
        uncertain += ["the operating point"] if config.operating_point != "none" else []
        notes.append(
            f"Only {few}: do not rely on what is fitted to them ({', '.join([*uncertain, 'the confidence threshold'])}), "
            "which other recordings would change much"
        )
    return notes
