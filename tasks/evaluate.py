"""Stage 8: scores on held-out subjects at recording level, the baselines beside them, and pictures."""

import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from heartdata.config import EvaluationConfig
from heartdata.schemas import FIGURES, MANIFEST, predictions_schema
from heartdata.store import Artifact, Store, table_from_rows
from tasks.progress import track
from tasks.stage import LONG_S, stage
from tasks.train import TrainedModel, history_of

VERSION = "3"  # raise when the same model gets other figures or pictures


class Evaluation(BaseModel):
    """Predictions and figures (schemas `predictions_schema` and FIGURES) of the test part, and PNG pictures."""

    model_config = ConfigDict(frozen=True)

    predictions: Artifact
    figures: Artifact
    per_class: dict[str, dict[str, float]]
    confidence: dict[str, float]
    pictures: dict[str, Artifact]


@stage("evaluate", VERSION, timeout_s=LONG_S)
def evaluate(manifest: Artifact, model: TrainedModel, config: EvaluationConfig, note: str, store: Store) -> Evaluation:
    """Answer every test recording once; ``note`` is written under the pictures."""
    from heartdata import scores
    from heartdata.baselines import majority_baseline, metadata_baseline
    from heartdata.calibration import apply_temperature
    from heartdata.predictor import Predictor, probabilities_of

    table, classes = store.read_frame(manifest, MANIFEST), list(model.classes)
    predictor = Predictor.load(store.local(model.weights.name), store.local(model.config.name))
    calibration = predictor.config.calibration
    test = table[table["part"] == "test"]
    with track("evaluate", len(test), "recordings") as advance:
        scaled = apply_temperature(probabilities_of(predictor, test, store, advance), calibration.temperature)
        predictions = {
            "resnet34": scores.prediction_rows(test, scaled, classes, calibration.class_weights),
            "metadata only": scores.prediction_rows(test, metadata_baseline(table, classes), classes),
            "majority class": scores.prediction_rows(test, majority_baseline(table, classes), classes),
        }
        figures = [
            row
            for name, rows in predictions.items()
            for row in scores.with_intervals(name, rows, classes, config.bootstrap, config.seed)
        ]
        ours = predictions["resnet34"]
        advance(len(test), len(test), f"macro-F1 {figures[0]['value']:.3f}")
        schema = predictions_schema(classes)
        return Evaluation(
            predictions=store.write_table("predictions", pa.Table.from_pandas(ours, preserve_index=False), schema),
            figures=store.write_table("figures", table_from_rows(figures, FIGURES), FIGURES),
            per_class=scores.per_class(ours, classes).to_dict("index"),
            confidence=scores.confidence_figures(ours, classes, calibration.unsure_below),
            pictures=_pictures(table, ours, classes, model, predictor, note, store),
        )


def _pictures(
    table: pd.DataFrame, ours: pd.DataFrame, classes: list[str], model: TrainedModel, predictor, note: str, store: Store
) -> dict[str, Artifact]:
    from heartdata import plots

    weighed = len(set(predictor.config.calibration.class_weights or ())) > 1
    rule = plots.AT_POINT if weighed else plots.MOST_PROBABLE
    pictures = {
        "training_curves": plots.training_curves(history_of(model, store), note),
        "confusion_matrix": plots.confusion_picture(ours, classes, note, rule),
        "roc": plots.roc_picture(ours, classes, note),
        "spectrograms": plots.spectrogram_sheet(table, store, predictor.config.spectrogram, note),
    }
    return {name: store.write_bytes("pictures", ".png", content) for name, content in pictures.items()}
