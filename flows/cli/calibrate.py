"""`heartbeat calibrate`: a registered model's decisions fitted to a user's own labelled recordings."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
from rich.console import Console

from flows.cli.console import bar, note, plain_console, quarantine_table, rich_table
from flows.local.environment import prepare_environment
from heartdata.config import RunConfig
from heartdata.errors import DataRefused, HeartbeatError
from heartdata.scoring.text import metric_label, with_bounds
from heartdata.sources.base import check_source
from heartdata.storage.store import Store
from tasks.registry.previous import recordings_trained_on
from tasks.registry.version_files import before_calibration, fetch_model

if TYPE_CHECKING:
    from heartdata.serving.recalibration import OwnRecordings


def calibrate_model(model: str | None, config: RunConfig) -> None:
    """Fit to the recordings of ``config.source``, score by cross-validation, and register. Raises `HeartbeatError`."""
    if config.source.name == "demo":
        raise HeartbeatError("calibrate needs your own labelled recordings: give them with --data")
    check_source(config.source)
    store = Store(config.store)
    prepare_environment(store.open())
    console = plain_console()
    with TemporaryDirectory() as temporary:
        with console.status("loading"):
            from heartdata.scoring.adaptation import adapt_and_score
            from heartdata.serving.predictor import Predictor
            from heartdata.serving.recalibration import own_recordings
            from tasks.registry.calibrated_version import register_calibrated

            registered = fetch_model(model, config.registry, store, Path(temporary))
            if original := before_calibration(registered):
                console.print(note(f"{registered.uri} is {original} calibrated already: calibrating {original} again"))
                registered = fetch_model(original, config.registry, store, Path(temporary))
            provenance = recordings_trained_on(registered.version.run_id)
            if provenance is None:
                raise HeartbeatError(
                    f"{registered.uri} does not say what it was trained on, and must not be calibrated on that: train a new "
                    "version"
                )
            predictor = Predictor.load(registered.weights, registered.config)
        classes = predictor.config.classes
        recordings, facts, accepted = _prepared(config, registered.uri, classes, store, console)
        with bar(console, "predicting") as advance:
            similarity = config.validation.near_duplicate_similarity
            own = own_recordings(predictor, recordings, accepted, facts, provenance, similarity, advance)
        _show_left_out(own, console)
        own.check_enough(registered.uri)
        with console.status("fitting"):
            adapted = adapt_and_score(
                own.probabilities, own.rows, list(classes), predictor.config.calibration, config.decision
            )
        with console.status("registering"):
            trained_on = own.provenance_with(provenance, facts)
            version = register_calibrated(registered, predictor.config, adapted, trained_on, config, store)
    counts = f"{len(own.rows)} recordings of {own.rows['group'].nunique()} subjects, each scored by the others"
    console.print(rich_table(f"{registered.uri} on your {counts}", metric_rows(adapted.metrics)))
    console.print(verdict(adapted.metrics, registered.uri), soft_wrap=True, markup=False)
    fitted, before = adapted.calibration, predictor.config.calibration
    console.print(
        f"Temperature from {before.temperature:.2f} to {fitted.temperature:.2f}; bound of unsure from "
        f"{before.unsure_below:.2f} to {fitted.unsure_below:.2f}: of your recordings {fitted.coverage:.0%} are decided, {fitted.risk:.0%} of them wrongly"
    )
    console.print(f"Registered  {version}, which no alias names: use it with --model {version}", markup=False)


def _prepared(
    config: RunConfig, model: str, classes: tuple[str, ...], store: Store, console: Console
) -> tuple[pa.Table, pa.Table, pd.DataFrame]:
    """The source's recordings, their facts, and those accepted, as a run would. Raises `HeartbeatError`."""
    from heartdata.audio.measurements import measure_files
    from heartdata.checks.validation import validate
    from heartdata.checks.waveforms import near_duplicate_pairs
    from heartdata.dataset.inventory import take_inventory
    from heartdata.serving.recalibration import refuse_unknown_labels

    with bar(console, "reading") as advance:
        recordings, notes = take_inventory(config.source, store.workpath("made"), advance)
    for text in notes:
        console.print(note(text))
    refuse_unknown_labels(recordings, classes, model)
    with bar(console, "measuring") as advance:
        facts = measure_files(recordings, config.measure, advance)
    with bar(console, "comparing") as advance:
        pairs = near_duplicate_pairs(recordings, facts, config.validation, config.measure, advance)
    with console.status("checking"):
        checked = validate(recordings, facts, config.validation, collections=config.split.collections, pairs=pairs)
    for text in checked.notes:
        console.print(note(text))
    if checked.quarantine.num_rows:
        refused = checked.quarantine.to_pandas()
        console.print(quarantine_table(refused[["recording_id", "check", "reason"]].to_dict("records")))
    if checked.refusal:
        raise DataRefused(f"nothing was calibrated: {checked.refusal}")
    accepted = checked.accepted.to_pandas()
    if config.split.collections is not None:
        accepted = accepted[accepted["collection"].isin(config.split.collections)]
    return recordings, facts, accepted


def _show_left_out(own: "OwnRecordings", console: Console) -> None:
    for why, names in own.left_out.items():
        console.print(note(f"{len(names)} recordings are left out, as {why}, the first being {names[0]}"))


def verdict(metrics: pd.DataFrame, uri: str) -> str:
    """What the differences say: better or worse is what a 95 % interval without 0 shows."""
    from heartdata.scoring.adaptation import BEFORE

    differences = metrics[metrics["model"] == BEFORE].set_index("metric")
    words = {1: "better", 0: "no clear difference", -1: "worse"}
    signs = []
    for metric, better in (("macro_f1", 1), ("brier", -1)):
        low, high = differences.loc[metric, ["difference_low", "difference_high"]]
        signs.append(better * (int(low > 0) - int(high < 0)))
    said = (
        f"Against {uri}, by the 95 % intervals of the difference: labels (macro-F1) {words[signs[0]]}, probabilities "
        f"(Brier score) {words[signs[1]]}"
    )
    if min(signs) < 0 < max(signs):
        return f"{said}: choose by which of them you use"
    return said if max(signs) > 0 else f"{said}: keep {uri}"


def metric_rows(metrics: pd.DataFrame) -> list[dict[str, str]]:
    """Rows for the terminal: each metric before and after, and the difference, with 95 % intervals."""
    from heartdata.scoring.adaptation import AFTER, BEFORE
    from heartdata.scoring.metrics import DIFFERENCE

    rows = []
    for metric, of_metric in metrics.groupby("metric", sort=False):
        after, before = (of_metric.set_index("model").loc[name] for name in (AFTER, BEFORE))
        rows.append({
            "": metric_label(str(metric)),
            BEFORE: with_bounds(*before[["value", "low", "high"]]),
            AFTER: with_bounds(*after[["value", "low", "high"]]),
            "difference": with_bounds(*before[[*DIFFERENCE]], sign="+"),
        })  # fmt: skip
    return rows
