"""A registered model trained again from its manifest and settings, and compared with what was registered."""

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import save

from heartdata.audio.channels import Channel
from heartdata.audio.spectrograms import SpectrogramConfig
from heartdata.dataset.spectrogram_shards import render_shard
from heartdata.errors import HeartbeatError
from heartdata.scoring.calibration import apply_calibration, decide
from heartdata.scoring.confusion import class_numbers, confusion_counts, macro_f1
from heartdata.serving.predictor import Predictor, predict_probabilities
from heartdata.sources.base import find_files
from heartdata.storage.hash_cache import sha256_of
from heartdata.storage.schemas import MANIFEST, SPECTROGRAMS
from heartdata.storage.shards import into_shards
from heartdata.storage.store import Store
from heartdata.training.network import ensemble_weights, weights_bytes, weights_snapshot
from heartdata.training.recipe import NetworkConfig
from heartdata.training.train import train

TOLERANCE = 0.01  # of a probability
LISTED = 20
Progress = Callable[[int, int], None]


class Reproduction(BaseModel):
    """How a second training differs from the registered one.

    ``max_difference``: of a class's probability of a test recording; ``changed_labels``: of the ``recordings`` of the
    test part; ``macro_f1`` and ``macro_f1_again``: of the two models on it. ``machine`` is empty where the run does not
    say it.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    weights_sha256: str
    weights_sha256_again: str
    max_difference: float
    changed_labels: int
    recordings: int
    macro_f1: float
    macro_f1_again: float
    machine: str
    machine_again: str

    @property
    def identical(self) -> bool:
        """Whether the weights are the same, bit by bit."""
        return self.weights_sha256 == self.weights_sha256_again

    @property
    def reproduced(self) -> bool:
        """Whether the weights are the same, or predictions differ by no more than TOLERANCE and no label does."""
        return self.identical or (self.max_difference <= TOLERANCE and not self.changed_labels)

    def to_json(self) -> str:
        """All of it, the two verdicts included."""
        verdicts = {"identical": self.identical, "reproduced": self.reproduced}
        return json.dumps({**self.model_dump(), **verdicts}, indent=2)


def moved_to(folder: Path, manifest: pd.DataFrame, uris: Mapping[str, str]) -> dict[str, str]:
    """``uris`` (of the recordings, by recording_id), those of ``manifest`` that ``folder`` holds there, by their content."""
    found = {sha256_of(file): str(file) for file in find_files(folder).audio}
    listed = zip(manifest["recording_id"], manifest["sha256"], strict=True)
    return {**uris, **{name: found[sha256] for name, sha256 in listed if sha256 in found}}


def check_recordings(manifest: pd.DataFrame, uris: Mapping[str, str], progress: Progress) -> None:
    """Raise `HeartbeatError`, which lists them, when files of ``manifest`` are missing or have another content.

    ``uris``: of the recordings, by recording_id.
    """
    rows = list(zip(manifest["recording_id"], manifest["sha256"], strict=True))

    def fault(row: tuple[str, str]) -> str | None:
        uri = uris.get(row[0]) or row[0]
        try:
            return None if sha256_of(Path(uri) if "://" not in uri else uri) == row[1] else f"{uri} has changed"
        except OSError:
            return f"{uri} is missing or cannot be read"

    faults = []
    with ThreadPoolExecutor() as pool:
        for done, found in enumerate(pool.map(fault, rows), 1):
            faults += [found] if found else []
            progress(done, len(rows))
    if faults:
        more = f"\n  and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise HeartbeatError(
            f"{len(faults)} of the {len(rows)} recordings are not as they were trained on: restore them, and run again\n  "
            + "\n  ".join(faults[:LISTED])
            + more
        )


def render_again(
    manifest: pd.DataFrame, uris: Mapping[str, str], config: SpectrogramConfig, channel: Channel, store: Store,
    progress: Progress,
) -> pd.DataFrame:  # fmt: skip
    """``manifest`` with its spectrograms rendered anew into ``store``."""
    shards = into_shards(
        (sha256, uris[name]) for name, sha256 in zip(manifest["recording_id"], manifest["sha256"], strict=True)
    )
    indices = []
    for done, shard in enumerate(shards, 1):
        indices.append(render_shard(shard, config, store, channel).index)
        progress(done, len(shards))
    index = pa.concat_tables(indices).to_pandas()
    facts = manifest.drop(columns=[name for name in SPECTROGRAMS.names if name != "sha256"])
    return facts.merge(index, on="sha256", how="left", validate="many_to_one")[MANIFEST.names]


def train_again(
    manifest: pd.DataFrame, initial: dict[str, torch.Tensor] | None, networks: Sequence[NetworkConfig], store: Store,
    progress: Progress,
) -> bytes:  # fmt: skip
    """The weights of the model that ``networks`` make of ``manifest``, as the content of a ``.safetensors`` file."""
    epochs = [config.epochs + (config.frozen_epochs if initial is not None else 0) for config in networks]
    nets = []
    for number, config in enumerate(networks):
        counted = partial(_advance, progress, sum(epochs[:number]), sum(epochs))

        def on_epoch(row: dict[str, float], counted: Callable[[int], None] = counted) -> None:
            counted(int(row["epoch"]) + 1)

        nets.append(train(manifest, initial, config, store, on_epoch).net)
    if len(nets) == 1:
        return weights_bytes(nets[0])
    return save(ensemble_weights([weights_snapshot(net) for net in nets]))


def differences(
    first: Predictor, second: Predictor, manifest: pd.DataFrame, store: Store, progress: Progress
) -> dict[str, float]:
    """``max_difference``, ``changed_labels``, ``recordings``, ``macro_f1`` and ``macro_f1_again`` on the test part."""
    test = manifest[manifest["part"] == "test"].reset_index(drop=True)
    classes, calibration = list(first.config.classes), first.config.calibration
    truth = class_numbers(test["label"], classes)

    probabilities, labels = [], []
    for number, predictor in enumerate((first, second)):
        counted = partial(_advance, progress, number * len(test), 2 * len(test))
        probabilities.append(apply_calibration(predict_probabilities(predictor, test, store, counted), calibration))
        decided = decide(probabilities[-1], classes, calibration.class_weights)
        labels.append(class_numbers(decided, classes))
    f1, f1_again = (float(macro_f1(confusion_counts(truth, each, len(classes)))[0]) for each in labels)
    return {
        "max_difference": float(np.abs(probabilities[0] - probabilities[1]).max()),
        "changed_labels": int((labels[0] != labels[1]).sum()),
        "recordings": len(test),
        "macro_f1": f1,
        "macro_f1_again": f1_again,
    }


def _advance(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)
