"""Scores on held-out subjects, by recording and by subject, with baselines and plots."""

from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from heartdata.checks.groups import subject_units
from heartdata.scoring.metrics import EvaluationConfig
from heartdata.scoring.model_names import MAJORITY_CLASS, METADATA_ONLY, NETWORK, SIMPLE_FEATURES
from heartdata.storage.schemas import MANIFEST, METRICS, predictions_schema, subjects_schema
from heartdata.storage.store import Artifact, Store, table_from_frame, table_from_rows
from tasks.engine.progress import track
from tasks.engine.stage import LONG_S, stage
from tasks.results import Evaluation, TrainedModel
from tasks.train import training_history

if TYPE_CHECKING:
    from heartdata.serving.predictor import Predictor


@stage("evaluate", timeout_s=LONG_S)
def evaluate(manifest: Artifact, model: TrainedModel, config: EvaluationConfig, note: str, store: Store) -> Evaluation:
    """Predict every test recording once; ``note`` is written under the plots."""
    from heartdata.scoring import metrics as scores
    from heartdata.scoring.baselines import classical_baseline, majority_baseline, metadata_baseline
    from heartdata.serving.predictor import Predictor, predict_probabilities

    table, classes = store.read_frame(manifest, MANIFEST), list(model.classes)
    predictor = Predictor.load(store.verified(model.weights), store.verified(model.config))
    calibration = predictor.config.calibration
    test = table[table["part"] == "test"]
    with track("evaluate", len(test), "recordings") as advance:
        probabilities = predict_probabilities(predictor, test, store, advance)
        by_features = classical_baseline(table, classes, predictor.config.spectrogram.hop_s, store)
        predictions = {
            NETWORK: scores.calibrated_rows(test, probabilities, classes, calibration),
            SIMPLE_FEATURES: scores.prediction_rows(test, by_features, classes),
            METADATA_ONLY: scores.prediction_rows(test, metadata_baseline(table, classes), classes),
            MAJORITY_CLASS: scores.prediction_rows(test, majority_baseline(table, classes), classes),
        }
        rules = {NETWORK: calibration.class_weights}
        subjects = {
            name: scores.subject_rows(rows, subject_units(test), classes, config.subject_rule, rules.get(name))
            for name, rows in predictions.items()
        }
        metrics = scores.metrics_with_intervals(predictions, classes, config.bootstrap, config.seed)
        if (subjects[NETWORK]["recordings"] > 1).any():
            by_subject = scores.metrics_with_intervals(subjects, classes, config.bootstrap, config.seed)
            metrics += [{**row, "metric": f"{row['metric']}_by_subject"} for row in by_subject]
        network = predictions[NETWORK]
        advance(len(test), len(test), f"macro-F1 {metrics[0]['value']:.3f}")
        return Evaluation(
            predictions=_write(network, predictions_schema(classes), store),
            subjects=_write(subjects[NETWORK], subjects_schema(classes), store),
            metrics=store.write_table("metrics", table_from_rows(metrics, METRICS), METRICS),
            per_class=scores.per_class(network, classes).to_dict("index"),
            confidence=scores.confidence_metrics(network, classes, calibration.unsure_below),
            baselines={
                name: _write(rows, predictions_schema(classes), store)
                for name, rows in predictions.items()
                if name != NETWORK
            },
            plots=_plots(table, network, classes, model, predictor, note, store),
        )


def _write(rows: pd.DataFrame, schema: pa.Schema, store: Store) -> Artifact:
    return store.write_table("predictions", table_from_frame(rows, schema), schema)


def _plots(
    table: pd.DataFrame, predictions: pd.DataFrame, classes: list[str], model: TrainedModel, predictor: "Predictor",
    note: str, store: Store,
) -> dict[str, Artifact]:  # fmt: skip
    from heartdata.reports import plots

    weighted = len(set(predictor.config.calibration.class_weights or ())) > 1
    rule = plots.AT_POINT if weighted else plots.MOST_PROBABLE
    images = {
        "training_curves": plots.plot_training_curves(training_history(model, store), note),
        "confusion_matrix": plots.plot_confusion(predictions, classes, note, rule),
        "roc": plots.plot_roc(predictions, classes, note),
        "spectrograms": plots.plot_spectrograms(table, store, predictor.config.spectrogram, note),
    }
    return {name: store.write_bytes("plots", ".png", content) for name, content in images.items()}
