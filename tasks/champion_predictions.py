"""What the champion predicts for tonight's held-out recordings; each recording is predicted once for each champion."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from heartdata.audio.decode import read_bytes
from heartdata.checks.suite import quarantine_reason
from heartdata.config import RunConfig
from heartdata.errors import BadAudio, HeartbeatError, StoreError
from heartdata.scoring.metrics import calibrated_rows
from heartdata.settings import sha256_json
from heartdata.storage.schemas import FACTS, RECORDINGS, champion_schema
from heartdata.storage.store import Artifact, Store, read_parquet, table_from_frame
from tasks.engine import progress
from tasks.engine.versions import STAGES
from tasks.registry.client import load_model

if TYPE_CHECKING:
    from heartdata.serving.predictor import Predictor

STAGE = "champion predictions"
KEPT_EVERY = 200  # recordings: a night that is stopped goes on from there


class UnusableChampion(HeartbeatError):
    """This version of heartbeat cannot load the champion."""


def champion_predictions(
    version: Any, rows: pd.DataFrame, recordings: Artifact, facts: Artifact, config: RunConfig, store: Store
) -> pd.DataFrame:
    """Its predictions for ``rows`` of the manifest (`predictions_schema`), with its calibration and operating point.

    ``version``: of the registry. Recordings that the champion refuses are left out. Raises `UnusableChampion`.
    """
    name = predictions_name(version)
    known = _known(name, store)
    new = rows[~rows["sha256"].isin(known["sha256"])].drop_duplicates("sha256")
    if new.empty:
        progress.unchanged(STAGE)
    else:
        with progress.track(STAGE, len(new), "recordings") as advance:
            predictor = _load(version, config, store)
            schema = champion_schema(list(predictor.config.classes))
            for done in range(0, len(new), KEPT_EVERY):
                some = new[done : done + KEPT_EVERY]

                def advanced(count: int, done: int = done) -> None:
                    advance(done + count)

                predicted = pd.DataFrame(
                    _predict(predictor, some, recordings, facts, config, store, advanced), columns=schema.names
                )
                known = pd.concat([known, predicted], ignore_index=True) if len(known) else predicted
                store.write_table(STAGE, table_from_frame(known, schema), schema, name=name)
            advance(len(new), len(new), f"{version.name} version {version.version}")
    frame = rows[["recording_id", "sha256", "group", "label"]].merge(known, on="sha256")
    return frame[frame["error"].isna()].drop(columns="error").reset_index(drop=True)


def predictions_name(version: Any) -> str:
    """The file of a champion's predictions."""
    return f"champion-predictions/{sha256_json([version.run_id, version.source, STAGES[STAGE].version])[:20]}.parquet"


def _known(name: str, store: Store) -> pd.DataFrame:
    """Those of earlier nights."""
    try:
        return read_parquet(store.local(name)).to_pandas()
    except (FileNotFoundError, pa.ArrowException, StoreError):
        return pd.DataFrame(columns=["sha256", "error"])


def _load(version: Any, config: RunConfig, store: Store) -> "Predictor":
    try:
        return load_model(f"models:/{version.name}/{version.version}", config.registry, store)[1]
    except Exception as error:  # whatever its files raise, it must not stop the night
        text = (str(error).splitlines() or [""])[0]
        raise UnusableChampion(
            text if isinstance(error, HeartbeatError) else f"{type(error).__name__}: {text}"
        ) from error


def _predict(
    predictor: "Predictor", rows: pd.DataFrame, recordings: Artifact, facts: Artifact, config: RunConfig, store: Store,
    advance: Callable[[int], None],
) -> list[dict[str, Any]]:  # fmt: skip
    """From tonight's spectrograms where the champion's would be the same, else from the audio, as it is served."""
    from heartdata.serving.predictor import predict_probabilities

    model, names = predictor.config, [f"p_{name}" for name in predictor.config.classes]
    if (model.spectrogram, model.measure) == (config.spectrogram, config.measure):
        measured = store.read_table(facts, FACTS)
        wanted = measured.filter(pa.compute.is_in(measured["sha256"], pa.array(rows["sha256"])))
        errors = {row["sha256"]: quarantine_reason(row, model.accepts) for row in wanted.to_pylist()}
        probabilities = predict_probabilities(predictor, rows, store, advance)
        predicted = calibrated_rows(rows, probabilities, list(model.classes), model.calibration)
        return predicted.assign(error=predicted["sha256"].map(errors)).to_dict("records")
    audio = _audio(rows, store.read_frame(recordings, RECORDINGS), advance)
    return [
        {"sha256": sha256, "error": str(result)}
        if isinstance(result, BadAudio)
        else {"sha256": sha256, "prediction": result.label, **dict(zip(names, result.probabilities, strict=True))}
        for sha256, result in zip(rows["sha256"], predictor.predict(audio), strict=True)
    ]


def _audio(rows: pd.DataFrame, recordings: pd.DataFrame, advance: Callable[[int], None]) -> Iterator[bytes]:
    """The bytes of each recording's file, read as they are asked for."""
    uris = recordings.set_index("recording_id")["uri"]
    for done, row in enumerate(rows.itertuples(), 1):
        yield read_bytes(uris[row.recording_id], row.sha256)
        advance(done)
