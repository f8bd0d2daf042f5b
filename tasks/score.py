"""Predictions for all recordings of a folder or table, computed only for contents that are new to the model."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
from prefect import get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.context import TaskRunContext

from heartdata import versions
from heartdata.audio.decode import LIBRARIES
from heartdata.audio.measurements import awaits_ffmpeg
from heartdata.config import RegistryConfig
from heartdata.errors import HeartbeatError, StoreError
from heartdata.serving.formats import write_predictions
from heartdata.settings import sha256_json
from heartdata.storage.schemas import RECORDINGS, scores_schema
from heartdata.storage.store import Artifact, Store, table_from_frame
from tasks.engine.progress import add_note, track
from tasks.engine.stage import uncached_task
from tasks.registry.client import find_version, load_model
from tasks.results import Scored

if TYPE_CHECKING:
    from heartdata.serving.predictor import Predictor

RETRIES = 3
KEEP_EVERY_S = 30.0  # what a killed run may lose


@uncached_task("load model")
def scoring_model(model: str | None, registry: RegistryConfig, store: Store) -> "tuple[str, Predictor]":
    """A registered version's URI, and its predictor; ``model``: as in `tasks.registry.client.find_version`."""
    uri, on_choice = find_version(model, registry, store)
    if on_choice:
        add_note(on_choice)
    return load_model(uri, registry, store)


@uncached_task("score", retries=RETRIES, retry_delay_seconds=5)
def score(recordings: Artifact, out: str, model: "tuple[str, Predictor]", store: Store) -> Scored:
    """Predict each distinct content of ``recordings`` (schema RECORDINGS) once, and write a row for each recording.

    Raises `HeartbeatError` when nothing can be predicted.
    """
    uri, predictor = model
    listed = store.read_frame(recordings, RECORDINGS)
    files = listed.dropna(subset="sha256").drop_duplicates("sha256").set_index("sha256")["uri"].to_dict()
    with track("score", len(files), "distinct files") as advance:
        known = kept_scores(predictor, store)
        results = [known[known["sha256"].isin(list(files))]]
        done = len(results[0])
        advance(done)
        is_kept = set(results[0]["sha256"])
        new = {sha256: file for sha256, file in files.items() if sha256 not in is_kept}
        for batch in predict_new(predictor, new, store):
            results.append(batch)
            done += len(batch)
            advance(done)
        rows = score_rows(listed, pd.concat(results), uri, predictor)
        write_predictions(rows, Path(out))
        failed = int(rows["error"].notna().sum())
        detail = f"{len(rows)} recordings, {failed} without a prediction; {len(new)} of {len(files)} files were new"
        advance(done, detail=detail)
    counts = counts_of(rows)
    create_table_artifact(counts, key="heartbeat-scores", description=f"Predictions of {uri}, written to {out}")
    get_run_logger().info("the predictions of %s for %d recordings are in %s", uri, len(rows), out)
    if failed == len(rows):
        raise HeartbeatError(
            f"none of the {failed} recordings has a prediction ({out} says why of each); the first: {rows['error'][0]}"
        )
    return Scored(out=out, model=uri, recordings=len(rows), failed=failed, new=len(new), counts=counts)


def predict_new(predictor: "Predictor", files: dict[str, str], store: Store) -> Iterator[pd.DataFrame]:
    """Predictions for ``files`` (sha256 to URI) by batches (`scores_schema`), which are kept in the store.

    A file that cannot be read is a row with the reason, which is not kept. OSError is raised where a retry may help, except
    in the task's last attempt.
    """
    from heartdata.serving.files import in_batches, predict_batch, read_file

    schema = scores_schema(list(predictor.config.classes))
    hashes = {uri: sha256 for sha256, uri in files.items()}
    waiting: list[pd.DataFrame] = []
    kept_s = time.monotonic()
    context = TaskRunContext.get()
    is_retried = context is not None and context.task_run.run_count <= RETRIES
    contents = (read_file(uri, sha256, is_retried) for sha256, uri in files.items())
    try:
        for batch in in_batches(contents):
            frame = predict_batch(predictor, batch)
            frame.insert(0, "sha256", frame["file"].map(hashes))
            waiting.append(frame[[file.error is None for file in batch]])
            if time.monotonic() - kept_s > KEEP_EVERY_S:
                _keep(waiting, predictor, schema, store)
                kept_s = time.monotonic()
            yield frame[schema.names]
    finally:
        _keep(waiting, predictor, schema, store)


def _keep(frames: list[pd.DataFrame], predictor: "Predictor", schema: pa.Schema, store: Store) -> None:
    if any(map(len, frames)):
        store.write_table(scores_folder(predictor.digest), table_from_frame(pd.concat(frames), schema), schema)
    frames.clear()


def scores_folder(digest: str) -> str:
    """The folder of the predictions of a model (see `model_digest`), as these versions of the code and of the decoders make
    them.
    """
    return f"scores/v{versions.SCORES}-{sha256_json([digest, LIBRARIES])[:12]}"


def kept_scores(predictor: "Predictor", store: Store) -> pd.DataFrame:
    """All predictions of a model that the store holds (`scores_schema`), each content once; damaged tables are left out."""
    schema = scores_schema(list(predictor.config.classes))
    tables = [schema.empty_table()]
    for entry in store.entries(scores_folder(predictor.digest)):
        try:
            tables.append(store.read_table(entry.name, schema))
        except (OSError, pa.ArrowException, StoreError):  # can be predicted again
            continue
    table = pa.concat_tables(tables)
    is_final = [not awaits_ffmpeg(error) for error in table.column("error").to_pylist()]
    return table.filter(pa.array(is_final, pa.bool_())).to_pandas().drop_duplicates("sha256")


def score_rows(listed: pd.DataFrame, scores: pd.DataFrame, uri: str, predictor: "Predictor") -> pd.DataFrame:
    """One row per recording of ``listed`` (schema RECORDINGS): what the source says of it, and its prediction.

    Columns that the source leaves empty are left out.
    """
    about = listed[["recording_id", "uri", "sha256", "collection", "subject", "site", "label", "missing"]]
    scores = scores.rename(columns={"label": "prediction"})
    rows = about.rename(columns={"uri": "file"}).merge(scores, how="left", on="sha256", validate="many_to_one")
    rows["error"] = rows["error"].fillna(rows.pop("missing"))
    rows["unsure"] = rows["unsure"].astype("boolean")
    rows["warnings"] = rows["warnings"].fillna("")
    empty = [name for name in ("collection", "subject", "site", "label") if not rows[name].fillna("").any()]
    return rows.drop(columns=empty).assign(model=uri, model_digest=predictor.digest)


def counts_of(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """How many recordings have each prediction, and of these how many are unsure; then those without one."""
    predicted = rows[rows["error"].isna()]
    groups = predicted.groupby("prediction")["unsure"]
    counts = [{"prediction": str(name), "recordings": len(of), "unsure": int(of.sum())} for name, of in groups]
    failed = len(rows) - len(predicted)
    return [*counts, *([{"prediction": "none (error)", "recordings": failed, "unsure": 0}] if failed else [])]
