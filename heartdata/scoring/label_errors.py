"""Suspected label errors, by confident learning on predictions for recordings that were not trained on.

Northcutt, Jiang and Chuang, Confident learning: estimating uncertainty in dataset labels, JAIR 2021.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from heartdata.scoring.bootstrap import subject_draws, with_interval
from heartdata.scoring.confusion import balanced_accuracy, class_numbers, confusion_counts
from heartdata.storage.csv_text import csv_text

FEW_OF_CLASS = 5  # of fewer, no probability is known to be typical
RESAMPLES = 500


@dataclass(frozen=True)
class Suspects:
    """Rows of the predictions whose labels are suspected, the least credible first, with column ``suggested``.

    ``judged``: the number of labels that were looked at; ``balanced_accuracy``: the model's on these. ``weakness``: why labels cannot be judged, and nobody is suspected; empty where they can.
    """

    rows: pd.DataFrame
    judged: int
    balanced_accuracy: float = float("nan")
    weakness: str = ""


def suspected_labels(predictions: pd.DataFrame, classes: list[str]) -> Suspects:
    """The suspects among held-out ``predictions`` (rows of `heartdata.storage.schemas.predictions_schema`).

    Classes with fewer than FEW_OF_CLASS recordings are not judged. A model that is not clearly better than chance
    (balanced accuracy, 95 % interval by bootstrap over subjects) is not asked: it would suspect good labels.
    """
    count = predictions["label"].value_counts()
    judged = [name for name in classes if count.get(name, 0) >= FEW_OF_CLASS]
    rows = predictions[predictions["label"].isin(judged)].reset_index(drop=True)
    none = rows[:0].assign(suggested="")
    if len(judged) < 2:
        few = f"fewer than two classes have {FEW_OF_CLASS} held-out recordings, so labels are not judged"
        return Suspects(none, 0, weakness=few)
    probabilities = rows[[f"p_{name}" for name in judged]].to_numpy(float)
    probabilities = (probabilities + 1e-9) / (probabilities + 1e-9).sum(axis=1, keepdims=True)
    draws = subject_draws(rows["group"], rows["label"], RESAMPLES, 0)
    labels, predicted = class_numbers(rows["label"], judged), probabilities.argmax(axis=1)
    counts = confusion_counts(labels, predicted, len(judged), draws.weights)
    value, low, _ = with_interval(balanced_accuracy(counts), draws.degrees_of_freedom)
    if not low > 1 / len(judged):
        weak = (
            f"the model is too weak to judge labels: its balanced accuracy on {len(rows)} held-out recordings, "
            f"{value:.3f}, is not clearly above chance, {1 / len(judged):.3f}"
        )
        return Suspects(none, len(rows), float(value), weak)
    from cleanlab.filter import find_label_issues  # a second to import

    order = find_label_issues(
        labels, probabilities, filter_by="low_normalized_margin",
        return_indices_ranked_by="self_confidence", n_jobs=1,
    )  # fmt: skip
    suspects = rows.iloc[order].assign(suggested=np.array(judged, object)[predicted[order]])
    return Suspects(
        suspects[suspects["suggested"] != suspects["label"]].reset_index(drop=True), len(rows), float(value)
    )


def corrections_csv(suspects: Suspects) -> str:
    """A table to fill in: the suspects, with columns new_label, who and why empty (see ``source.corrections``)."""
    rows = suspects.rows
    columns = ["recording", "new_label", "who", "why", "label", "suggested", "p_label", "p_suggested", "sha256"]
    table = rows[["label", "suggested", "sha256"]].assign(recording=rows["recording_id"])
    for name in ("label", "suggested"):
        table[f"p_{name}"] = [round(float(row[f"p_{row[name]}"]), 3) for row in rows.to_dict("records")]
    return csv_text(table.reindex(columns=columns, fill_value=""))
