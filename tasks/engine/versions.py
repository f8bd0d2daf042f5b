"""The version of each stage, and the modules that compute its result.

The version is in the stage's cache keys: raise it when a stage computes something else from the same inputs.
`tests/test_stage_code.py` fails when one of the modules changes in more than comments, docstrings, formatting and
imports, or when a template or style sheet of a stage changes.
"""

from dataclasses import dataclass

from heartdata import versions


@dataclass(frozen=True)
class Code:
    """A stage's version, the modules and paths of other files that make its result, and whether it ``decodes`` or
    resamples audio: then the versions of libsndfile and libsoxr are in its cache keys, too.
    """

    version: str
    modules: tuple[str, ...]
    decodes: bool = False


NETWORK_MODULES = ("heartdata.training.network", "heartdata.training.features", "heartdata.dataset.windows")
PREDICTING = (
    *NETWORK_MODULES, "heartdata.serving.predictor", "heartdata.scoring.calibration", "heartdata.scoring.challenges",
    "heartdata.scoring.confusion",
)  # fmt: skip

STAGES = {
    "measure shard": Code(
        versions.MEASURE,
        ("tasks.measure", "heartdata.audio.channels", "heartdata.audio.decode", "heartdata.audio.ffmpeg",
         "heartdata.audio.fingerprint", "heartdata.audio.measurements", "heartdata.audio.mp3", "heartdata.audio.quality",
         "heartdata.audio.wav_header", "heartdata.storage.schemas", "heartdata.storage.shards"),
        decodes=True,
    ),
    "near-duplicates": Code(
        "2",
        ("tasks.near_duplicates", "heartdata.audio.fingerprint", "heartdata.checks.alignment",
         "heartdata.checks.near_duplicates", "heartdata.checks.waveforms", "heartdata.storage.schemas"),
        decodes=True,
    ),
    "validate": Code(
        "13",
        ("tasks.validate", "heartdata/checks/data_docs.css", "heartdata.checks.data_docs", "heartdata.checks.drift",
         "heartdata.checks.duplicates",
         "heartdata.checks.expectations", "heartdata.checks.groups", "heartdata.checks.suite",
         "heartdata.checks.validation", "heartdata.reports.labels", "heartdata.reports.plots",
         "heartdata.storage.schemas"),
    ),
    "subjects apart": Code("1", ("tasks.study", "heartdata.storage.schemas")),
    "split": Code(
        "3",
        ("tasks.split", "heartdata.checks.groups", "heartdata.dataset.split_strategies", "heartdata.dataset.splits",
         "heartdata.storage.schemas"),
    ),
    "spectrogram shard": Code(
        versions.SPECTROGRAMS,
        ("tasks.spectrograms", "heartdata.audio.channels", "heartdata.audio.decode", "heartdata.audio.ffmpeg",
         "heartdata.audio.mp3", "heartdata.audio.quality", "heartdata.audio.spectrograms", "heartdata.audio.wav_header",
         "heartdata.dataset.spectrogram_shards", "heartdata.storage.schemas", "heartdata.storage.shards"),
        decodes=True,
    ),
    "manifest": Code(
        "3",
        ("tasks.manifest", "heartdata.dataset.manifest", "heartdata.dataset.splits", "heartdata.storage.schemas"),
    ),
    "provenance": Code(
        "5",
        ("tasks.train", "heartdata.audio.fingerprint", "heartdata.checks.alignment", "heartdata.checks.near_duplicates",
         "heartdata.dataset.provenance", "heartdata.storage.schemas"),
    ),
    "train": Code(
        "-".join(["7", *versions.PREPROCESSING.values()]),  # which the model's config names
        ("tasks.train", "heartdata.dataset.split_strategies", "heartdata.dataset.spectrogram_shards",
         "heartdata.scoring.bootstrap", "heartdata.scoring.confusion", "heartdata.storage.schemas",
         "heartdata.training.callbacks", "heartdata.training.checkpoint", "heartdata.training.contrast",
         "heartdata.training.train", *NETWORK_MODULES),
    ),
    "ensemble": Code("1", ("tasks.ensemble", "heartdata.training.network")),
    "calibrate": Code(
        "5",
        ("tasks.calibrate", "heartdata.scoring.bootstrap", "heartdata.scoring.metrics", "heartdata.storage.schemas",
         *PREDICTING),
    ),
    "evaluate": Code(
        "7",
        ("tasks.evaluate", "heartdata.audio.spectrograms", "heartdata.checks.groups", "heartdata.reports.labels",
         "heartdata.reports.plots", "heartdata.scoring.baselines", "heartdata.scoring.bootstrap",
         "heartdata.scoring.features", "heartdata.scoring.metrics", "heartdata.scoring.model_names",
         "heartdata.storage.schemas", *PREDICTING),
    ),
    "slices": Code(
        "2",
        ("tasks.slices", "heartdata.scoring.bootstrap", "heartdata.scoring.confusion", "heartdata.scoring.metrics",
         "heartdata.scoring.slices", "heartdata.storage.schemas"),
    ),
    "register": Code(
        "7",
        ("mlflow.served_model", "mlflow/model_card.md", "heartdata.reports.model_card", "heartdata.scoring.model_names",
         "tasks.register", "tasks.registry.model_version", "tasks.registry.naming"),
    ),
    "report": Code(
        "5",
        ("tasks.report", "heartdata/reports/report.css", "heartdata/reports/report.html", "heartdata.reports.clips",
         "heartdata.reports.labels", "heartdata.reports.listening",
         "heartdata.reports.plots", "heartdata.reports.report", "heartdata.reports.study_plots",
         "heartdata.reports.summary", "heartdata.scoring.bootstrap", "heartdata.scoring.label_errors", "heartdata.scoring.metrics",
         "heartdata.scoring.slices", "heartdata.scoring.text", "heartdata.serving.explain", "heartdata.storage.csv_text",
         "heartdata.storage.schemas", *PREDICTING),
        decodes=True,
    ),
    "champion predictions": Code(  # no task: kept in a table of each champion
        "1", ("tasks.champion_predictions", "heartdata.scoring.metrics", *PREDICTING)
    ),
    "score fold": Code(
        "4",
        ("tasks.study", "heartdata.scoring.baselines", "heartdata.scoring.features", "heartdata.scoring.metrics",
         "heartdata.scoring.model_names", "heartdata.storage.schemas", *PREDICTING),
    ),
    "demo recordings": Code(  # no task: kept in a folder
        versions.DEMO, ("heartdata.audio.synthesis", "heartdata.sources.demo")
    ),
    "scores": Code(  # no task: kept in a folder
        versions.SCORES,
        ("heartdata.audio.beats", "heartdata.audio.heart_cycle", "heartdata.audio.measurements", "heartdata.audio.quality", "heartdata.checks.suite",
         "heartdata.serving.files", *PREDICTING),
        decodes=True,
    ),
}  # fmt: skip
