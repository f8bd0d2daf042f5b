"""A version with the weights of another one and a calibration of its own."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from heartdata.config import RunConfig
from heartdata.scoring.adaptation import AFTER, BEFORE, Adapted
from heartdata.serving.model_config import ModelConfig
from heartdata.settings import sha256_json
from heartdata.storage.schemas import HISTORY, TRAINED_ON
from heartdata.storage.store import Store, conform
from tasks.registry.client import KEY_TAG, connect, experiment_of
from tasks.registry.model_version import log_model
from tasks.registry.naming import allowed_names, without_nan
from tasks.registry.previous import ACCEPTED_TAG, PROVENANCE_FOLDER, SERIES_TAG
from tasks.registry.pruning import CALIBRATED_FROM
from tasks.registry.version_files import MODEL_CARD, RegisteredModel, run_file
from tasks.results import TrainedModel

CALIBRATED_ON = "heartbeat.calibrated_on"  # tag of a version: digest of the recordings and their labels


def register_calibrated(
    registered: RegisteredModel, config: ModelConfig, adapted: Adapted, trained_on: pa.Table, settings: RunConfig,
    store: Store,
) -> str:  # fmt: skip
    """Log a run and register its model, which no alias names; the same calibration makes one version only.

    ``config``: of ``registered``; ``trained_on`` (schema TRAINED_ON): by its weights and by its calibration. Returns the
    URI.
    """
    import mlflow

    client, name = connect(settings.registry, store), registered.version.name
    calibrated = config.model_copy(update={"calibration": adapted.calibration})
    weights = store.write_bytes("models", ".safetensors", registered.weights.read_bytes())
    model = TrainedModel(
        weights=weights,
        config=store.write_bytes("models", ".json", calibrated.model_dump_json(indent=2).encode()),
        history=store.write_table("models/history", HISTORY.empty_table(), HISTORY),  # nothing is trained
        kept_epoch=-1,
        classes=config.classes,
        init=config.init,
        precision="float32",
    )
    rows = adapted.predictions
    data = sha256_json(sorted(zip(rows["sha256"], rows["label"], strict=True)))
    key = sha256_json(["calibrate", weights.digest, model.config.digest, data])
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(KEY_TAG) == key:
            return f"models:/{name}/{version.version}"
    origin = registered.version
    of_data = ("dataset_version", ACCEPTED_TAG, SERIES_TAG)  # of the weights, for later comparisons
    tags = {
        **{tag: origin.tags[tag] for tag in of_data if tag in origin.tags},
        KEY_TAG: key,
        CALIBRATED_FROM: str(origin.version),
        CALIBRATED_ON: data,
    }
    metrics = adapted.metrics.set_index(["model", "metric"])["value"]
    description = (
        f"Version {origin.version} calibrated on {len(rows)} recordings of {rows['group'].nunique()} subjects "
        f"(source {settings.source.name}): macro-F1 {metrics[BEFORE, 'macro_f1']:.3f} before, "
        f"{metrics[AFTER, 'macro_f1']:.3f} after, cross-validated over subjects. Research use only."
    )
    with mlflow.start_run(
        experiment_id=experiment_of(client, settings.registry, store),
        run_name=f"version {origin.version} calibrated, data {data[:8]}",
        description=description,
        tags={**tags, "weights_sha256": weights.digest},
    ) as run:
        mlflow.log_dict(settings.model_dump(mode="json"), "config.json")
        mlflow.log_metrics(
            without_nan(allowed_names({f"{m.replace(' ', '_')}/{n}": v for (m, n), v in metrics.items()}))
        )
        mlflow.log_table(adapted.metrics, "tables/metrics.json")
        with TemporaryDirectory() as folder:
            rows.to_parquet(path := Path(folder, "calibration.parquet"), index=False)
            mlflow.log_artifact(str(path), "tables")
            for table in ("manifest", "recordings"):
                if copied := run_file(origin.run_id, f"tables/{table}.parquet", Path(folder)):
                    mlflow.log_artifact(str(copied), "tables")
            if card := run_file(origin.run_id, MODEL_CARD, Path(folder)):
                mlflow.log_text(f"> {description}\n\n{card.read_text(encoding='utf-8')}", MODEL_CARD)
        provenance = store.write_table("provenance", conform(trained_on, TRAINED_ON, "provenance"), TRAINED_ON)
        mlflow.log_artifact(str(store.local(provenance.name)), PROVENANCE_FOLDER)
        info = log_model(model, store)
    version = client.create_model_version(
        name, source=info.model_uri, run_id=run.info.run_id, model_id=info.model_id, tags=tags, description=description
    )
    return f"models:/{name}/{version.version}"
