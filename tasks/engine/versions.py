"""The version of each stage, and the code that it stands for: the only place where versions of stages are.

A cached result is taken for one of now while its stage has the same version. So raise it when a stage computes
something else from the same inputs. `tests/test_stage_code.py` notices when one of the modules changes, but for
comments, docstrings, formatting and imports.
"""

from dataclasses import dataclass

from heartdata import versions


@dataclass(frozen=True)
class Code:
    """The version of a stage, the modules that compute its result, and whether audio is decoded or resampled by it:
    the versions of libsndfile and libsoxr are then in its cache key as well.
    """

    version: str
    modules: tuple[str, ...]
    decodes: bool = False


NETWORK = ("heartdata.training.network", "heartdata.dataset.windows")
ANSWERING = (
    *NETWORK,
    "heartdata.serving.predictor",
    "heartdata.scoring.calibration",
    "heartdata.scoring.challenges",
    "heartdata.scoring.confusion",
)

STAGES = {
    "measure shard": Code(
        versions.MEASURE,
        ("tasks.measure", "heartdata.audio.measurements", "heartdata.audio.decode", "heartdata.audio.quality", "heartdata.checks.near_duplicates",
         "heartdata.storage.shards", "heartdata.storage.schemas"),
        decodes=True,
    ),
    "validate": Code(
        "9",
        ("tasks.validate", "heartdata.checks.validation", "heartdata.checks.suite", "heartdata.checks.expectations", "heartdata.checks.duplicates",
         "heartdata.checks.near_duplicates", "heartdata.checks.drift", "heartdata.checks.data_docs", "heartdata.reports.plots", "heartdata.dataset.splits",
         "heartdata.storage.schemas"),
    ),
    "subjects apart": Code("1", ("tasks.study", "heartdata.storage.schemas")),
    "split": Code("3", ("tasks.split", "heartdata.dataset.splits", "heartdata.dataset.split_strategies", "heartdata.storage.schemas")),
    "spectrogram shard": Code(
        versions.SPECTROGRAMS,
        ("tasks.spectrograms", "heartdata.audio.spectrograms", "heartdata.dataset.spectrogram_shards", "heartdata.audio.decode", "heartdata.storage.shards",
         "heartdata.storage.schemas"),
        decodes=True,
    ),
    "manifest": Code("3", ("tasks.manifest", "heartdata.dataset.manifest", "heartdata.dataset.splits", "heartdata.storage.schemas")),
    "heard": Code("4", ("tasks.train", "heartdata.dataset.provenance", "heartdata.checks.near_duplicates", "heartdata.storage.schemas")),
    "train": Code(
        "6",
        ("tasks.train", "heartdata.training.train", "heartdata.training.callbacks", "heartdata.training.contrast", "heartdata.training.checkpoint",
         "heartdata.training.memory", "heartdata.scoring.metrics", "heartdata.scoring.confusion", "heartdata.storage.schemas", *NETWORK),
    ),
    "ensemble": Code("1", ("tasks.ensemble", "heartdata.training.network")),
    "calibrate": Code("2", ("tasks.calibrate", *ANSWERING)),
    "evaluate": Code(
        "5",
        ("tasks.evaluate", "heartdata.scoring.metrics", "heartdata.scoring.baselines", "heartdata.dataset.splits",
         "heartdata.reports.plots", "heartdata.storage.schemas", *ANSWERING),
    ),
    "register": Code("5", ("tasks.register",)),
    "score fold": Code(
        "3",
        ("tasks.study", "heartdata.scoring.metrics", "heartdata.scoring.baselines", "heartdata.scoring.features", "heartdata.storage.schemas",
         *ANSWERING),
    ),
    "demo recordings": Code(versions.DEMO, ("heartdata.sources.demo", "heartdata.audio.synthesis")),  # no task: kept in a folder
}  # fmt: skip

# Modules of heartdata from which no cached result comes.
NOTHING_CACHED = (
    # settings, which are in cache keys themselves, and these versions
    "heartdata", "heartdata.config", "heartdata.settings", "heartdata.training.pretraining", "heartdata.versions",
    # done anew in every run: the inventory, and what a study makes of its folds
    "heartdata.dataset.inventory", "heartdata.storage.hash_cache", "heartdata.studies.protocols", "heartdata.studies.config", "heartdata.studies.page",
    "heartdata.reports.study_plots", "heartdata.studies.scores",
    "heartdata.sources", "heartdata.sources.archives", "heartdata.sources.base", "heartdata.sources.cinc2016.source",
    "heartdata.sources.cinc2016.subjects", "heartdata.sources.circor2022.source", "heartdata.sources.circor2022.patients",
    "heartdata.sources.table.folder", "heartdata.sources.folders", "heartdata.sources.table.merged_cells", "heartdata.sources.mix",
    "heartdata.sources.table.file_lookup", "heartdata.sources.pascal", "heartdata.sources.table.source", "heartdata.sources.table.columns",
    # where results are kept, and who computes them
    "heartdata.errors", "heartdata.storage.remote", "heartdata.storage.store", "tasks.engine.workers",
    # commands of their own
    "heartdata.sources.catalogue", "heartdata.sources.download", "heartdata.reports.inspect", "heartdata.reports.inspect_plots", "heartdata.markdown",
    "heartdata.dataset.prune",
)  # fmt: skip
