"""How well the model does in each slice of the test part, such as a site or an age group."""

from heartdata.scoring.metrics import EvaluationConfig
from heartdata.storage.schemas import (
    FACTS,
    MANIFEST,
    RECORDINGS,
    SLICE_ATTRIBUTES,
    SLICES,
    predictions_schema,
)
from heartdata.storage.store import Artifact, Store, table_from_frame, table_from_rows
from tasks.engine.progress import track
from tasks.engine.stage import stage
from tasks.results import Evaluation, SliceResult


@stage("slices")
def slices(
    manifest: Artifact, recordings: Artifact, facts: Artifact, evaluation: Evaluation, min_quality: float,
    config: EvaluationConfig, store: Store,
) -> SliceResult:  # fmt: skip
    """Which recordings of the manifest are in which slice, and the metrics of the test part's predictions in each.

    The counts of the metrics are how many values of each attribute are left out.
    """
    from heartdata.scoring.slices import LEAST_SUBJECTS, slice_attributes, slice_metrics

    with track("slices") as advance:
        attributes = slice_attributes(
            store.read_frame(manifest, MANIFEST),
            store.read_frame(recordings, RECORDINGS),
            store.read_frame(facts, FACTS),
            min_quality,
        )
        classes = list(evaluation.per_class)
        predictions = store.read_frame(evaluation.predictions, predictions_schema(classes))
        rows, left_out = slice_metrics(predictions, attributes, classes, config.bootstrap, config.seed)
        count, others = len({(row["attribute"], row["slice"]) for row in rows}), sum(left_out.values())
        detail = f"{count} slices" + (f", {others} more are small and left out" if others else "")
        if not count:
            reason = f"none of {others} has {LEAST_SUBJECTS} subjects" if others else "no attribute has two values"
            detail = f"no slices: {reason}"
        advance(1, 1, detail)
        table = table_from_frame(attributes, SLICE_ATTRIBUTES)
        return SliceResult(
            attributes=store.write_table("slices", table, SLICE_ATTRIBUTES),
            metrics=store.write_table("slices", table_from_rows(rows, SLICES), SLICES, {**left_out}),
        )
