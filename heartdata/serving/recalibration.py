"""A user's own labelled recordings, as far as a model may be calibrated on them, with what its network says of each."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow as pa

from heartdata.audio.decode import read_bytes
from heartdata.dataset.provenance import sounds_trained_on, was_trained_on
from heartdata.dataset.splits import split_groups
from heartdata.errors import BadAudio, HeartbeatError
from heartdata.scoring.adaptation import LEAST_RECORDINGS, LEAST_SUBJECTS
from heartdata.scoring.calibration import Calibration
from heartdata.serving.predictor import Predictor


@dataclass(frozen=True)
class OwnRecordings:
    """``rows`` (columns of ACCEPTED, and group) with the network's ``probabilities`` (n, classes).

    ``left_out``: ids of the other recordings, by why.
    """

    rows: pd.DataFrame
    probabilities: np.ndarray
    left_out: dict[str, list[str]]

    def check_enough(self, model: str) -> None:
        """Raise `HeartbeatError` when there are too few recordings, or all have one label."""
        subjects, labels = self.rows["group"].nunique(), sorted(self.rows["label"].unique())
        if len(self.rows) < LEAST_RECORDINGS or subjects < LEAST_SUBJECTS:
            raise HeartbeatError(
                f"only {len(self.rows)} recordings of {subjects} subjects are left to calibrate {model} on, and "
                f"{LEAST_RECORDINGS} of {LEAST_SUBJECTS} are needed: give more recordings, of people it was not trained on"
            )
        if len(labels) < 2:
            raise HeartbeatError(
                f"all {len(self.rows)} recordings that are left are labelled {labels[0]}: give recordings of at least two "
                "classes"
            )

    def provenance_with(self, before: pa.Table, facts: pa.Table) -> pa.Table:
        """What a model calibrated on these has seen (schema TRAINED_ON): also that ``before``."""
        return sounds_trained_on(self.rows.assign(part="calibration"), facts.to_pandas(), before)


def refuse_unknown_labels(recordings: pa.Table, classes: Sequence[str], model: str) -> None:
    """Raise `HeartbeatError` when a label of ``recordings`` (schema RECORDINGS) is none of the model's classes."""
    labels = recordings.column("label").drop_null().unique().to_pylist()
    if unknown := sorted(set(labels) - set(classes)):
        raise HeartbeatError(
            f"{', '.join(map(repr, unknown))} {'is no class' if len(unknown) == 1 else 'are no classes'} of {model}, which "
            f"has {', '.join(classes)}: name the class of each label, as in --set 'source.labels={{{unknown[0]}: "
            f"{classes[0]}}}' (null leaves recordings of a label out)"
        )


def own_recordings(
    predictor: Predictor, recordings: pa.Table, accepted: pd.DataFrame, facts: pa.Table, provenance: pa.Table,
    similarity: float, progress: Callable[[int, int], None] = lambda done, total: None,
) -> OwnRecordings:  # fmt: skip
    """Those of ``accepted`` (schema ACCEPTED) that have a label and are not in ``provenance`` (schema TRAINED_ON).

    ``recordings`` and ``facts`` (schemas RECORDINGS and FACTS) have all; ``similarity``: see `was_trained_on`.
    """
    accepted = accepted.assign(group=split_groups(accepted))
    left_out: dict[str, list[str]] = {}
    unlabelled = accepted["label"].isna()
    known = was_trained_on(accepted, facts.to_pandas(), provenance, similarity)
    for why, mask in (
        ("they have no label", unlabelled),
        (
            "the model was trained on them, on recordings that sound alike or on others of their subjects",
            known & ~unlabelled,
        ),
    ):
        if mask.any():
            left_out[why] = accepted.loc[mask, "recording_id"].tolist()
    rows = accepted[~unlabelled & ~known].reset_index(drop=True)
    uris = dict(zip(*(recordings.column(name).to_pylist() for name in ("recording_id", "uri")), strict=True))
    neutral = predictor.config.model_copy(update={"calibration": Calibration()})  # the network's own probabilities

    def contents() -> Iterator[bytes]:
        for done, row in enumerate(rows.itertuples(index=False), 1):
            try:
                yield read_bytes(uris[row.recording_id], row.sha256)
            except OSError as error:
                raise HeartbeatError(f"{error.filename} cannot be read ({error.strerror}): run again") from error
            progress(done, len(rows))

    results = replace(predictor, config=neutral).predict(contents())
    for name, result in zip(rows["recording_id"], results, strict=True):
        if isinstance(result, BadAudio):
            left_out.setdefault(f"the model refuses them ({result})", []).append(name)
    usable = np.array([not isinstance(result, BadAudio) for result in results], bool)
    probabilities = [result.probabilities for result in results if not isinstance(result, BadAudio)]
    shape = (-1, len(predictor.config.classes))
    return OwnRecordings(rows[usable].reset_index(drop=True), np.array(probabilities).reshape(shape), left_out)
