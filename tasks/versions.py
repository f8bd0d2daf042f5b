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


NETWORK = ("heartdata.model", "heartdata.dataset")
ANSWERING = (*NETWORK, "heartdata.predictor", "heartdata.calibration", "heartdata.challenge", "heartdata.confusion")

STAGES = {
    "measure shard": Code(
        versions.MEASURE,
        ("tasks.measure", "heartdata.measure", "heartdata.audio", "heartdata.quality", "heartdata.duplicates",
         "heartdata.shards", "heartdata.schemas"),
        decodes=True,
    ),
    "validate": Code(
        "9",
        ("tasks.validate", "heartdata.validation", "heartdata.suite", "heartdata.expectations", "heartdata.copies",
         "heartdata.duplicates", "heartdata.drift", "heartdata.data_docs", "heartdata.plots", "heartdata.splits",
         "heartdata.schemas"),
    ),
    "subjects apart": Code("1", ("tasks.study", "heartdata.schemas")),
    "split": Code("3", ("tasks.split", "heartdata.splits", "heartdata.split_strategies", "heartdata.schemas")),
    "spectrogram shard": Code(
        versions.SPECTROGRAMS,
        ("tasks.spectrograms", "heartdata.spectrograms", "heartdata.rendering", "heartdata.audio", "heartdata.shards",
         "heartdata.schemas"),
        decodes=True,
    ),
    "manifest": Code("3", ("tasks.manifest", "heartdata.manifest", "heartdata.splits", "heartdata.schemas")),
    "heard": Code("4", ("tasks.train", "heartdata.heard", "heartdata.duplicates", "heartdata.schemas")),
    "train": Code(
        "6",
        ("tasks.train", "heartdata.training", "heartdata.callbacks", "heartdata.contrast", "heartdata.progress_file",
         "heartdata.memory", "heartdata.scores", "heartdata.confusion", "heartdata.schemas", *NETWORK),
    ),
    "ensemble": Code("1", ("tasks.ensemble", "heartdata.model")),
    "calibrate": Code("2", ("tasks.calibrate", *ANSWERING)),
    "evaluate": Code(
        "5",
        ("tasks.evaluate", "heartdata.scores", "heartdata.baselines", "heartdata.splits",
         "heartdata.plots", "heartdata.schemas", *ANSWERING),
    ),
    "register": Code("5", ("tasks.register",)),
    "score fold": Code(
        "3",
        ("tasks.study", "heartdata.scores", "heartdata.baselines", "heartdata.features", "heartdata.schemas",
         *ANSWERING),
    ),
    "demo recordings": Code(versions.DEMO, ("heartdata.sources.demo", "heartdata.synth")),  # no task: kept in a folder
}  # fmt: skip

# Modules of heartdata from which no cached result comes.
NOTHING_CACHED = (
    # settings, which are in cache keys themselves, and these versions
    "heartdata", "heartdata.config", "heartdata.settings", "heartdata.pretraining", "heartdata.versions",
    # done anew in every run: the inventory, and what a study makes of its folds
    "heartdata.inventory", "heartdata.seen", "heartdata.studies", "heartdata.study_config", "heartdata.study_page",
    "heartdata.study_plots", "heartdata.study_scores",
    "heartdata.sources", "heartdata.sources.archives", "heartdata.sources.base", "heartdata.sources.cinc2016",
    "heartdata.sources.cinc2016_subjects", "heartdata.sources.circor2022", "heartdata.sources.circor2022_patients",
    "heartdata.sources.folder", "heartdata.sources.folders", "heartdata.sources.merged", "heartdata.sources.mix",
    "heartdata.sources.named", "heartdata.sources.pascal", "heartdata.sources.table", "heartdata.sources.tables",
    # where results are kept, and who computes them
    "heartdata.errors", "heartdata.remote", "heartdata.store", "heartdata.workers",
    # commands of their own
    "heartdata.catalogue", "heartdata.download", "heartdata.inspect", "heartdata.inspect_plots", "heartdata.markdown",
    "heartdata.prune",
)  # fmt: skip
