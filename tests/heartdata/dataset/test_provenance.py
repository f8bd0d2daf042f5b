"""No recording that weights were trained on is used to test them."""

import pandas as pd
import pyarrow as pa
import pytest
from helpers import beats

from heartdata.audio.decode import resample
from heartdata.audio.fingerprint import RATE_HZ, fingerprint
from heartdata.dataset.provenance import refuse_if_trained_on, sounds_trained_on, upgrade_schema
from heartdata.errors import DataRefused

SAMPLES = {name: resample(beats(60 + 3 * seed, 12.0, seed=seed), 4000, RATE_HZ) for seed, name in enumerate("abc")}
FACTS = pd.DataFrame(
    [{"sha256": n, "samples_sha256": f"samples {n}", "fingerprint": fingerprint(x)} for n, x in SAMPLES.items()]
)


def manifest(subject: str | None = None, source: str = "table", **parts: str) -> pd.DataFrame:
    """``parts``: recording to part."""
    rows = [{"recording_id": f"{name}.wav", "sha256": name, "part": part} for name, part in parts.items()]
    return pd.DataFrame(rows).assign(subject=subject, source=source)


def train(before: pa.Table | None = None, facts: pd.DataFrame = FACTS, **rows: str) -> pa.Table:
    return sounds_trained_on(manifest(**rows), facts, before)


def leaked(before: pa.Table, facts: pd.DataFrame = FACTS, **rows: str) -> str | None:
    """Why the rows are refused as a test of weights trained on ``before``, or None."""
    try:
        refuse_if_trained_on(manifest(**rows), facts, before, "models:/x@champion", 0.98)
    except DataRefused as error:
        return str(error)
    return None


def test_all_parts_but_test_and_what_the_initial_weights_were_trained_on_are_recorded():
    assert train(train(c="train"), a="train", b="test")["sha256"].to_pylist() == ["a", "c"]
    assert train(a="valid", b="unlabelled")["sha256"].to_pylist() == ["a", "b"]


def test_a_test_recording_that_was_trained_on_is_refused():
    before = train(a="train", b="test")
    assert leaked(before, a="train", b="test") is None
    assert "models:/x@champion were trained on 1 of the 1 recordings" in str(leaked(before, a="test", b="train"))
    assert "'b.wav'" in str(leaked(train(a="train", b="unlabelled"), b="test"))
    assert leaked(train(a="test"), a="test") is None


def test_a_copy_or_near_duplicate_of_a_recording_trained_on_is_refused():
    cut = pd.DataFrame(
        [{"sha256": "cut", "samples_sha256": "t", "fingerprint": fingerprint(0.5 * SAMPLES["a"][3000:])}]
    )
    assert "'cut.wav'" in str(leaked(train(a="train"), cut, cut="test"))
    copy = cut.assign(samples_sha256="samples a", fingerprint=None)
    assert "'cut.wav'" in str(leaked(train(a="train"), copy, cut="test"))


@pytest.mark.parametrize(
    ("trained", "tested", "refused"),
    [(("7", "table"), ("7", "table"), True), (("7", "table"), ("7", "table-2"), True),  # the source in a mix
     (("7", "table"), ("8", "table"), False), (("7", "table"), ("7", "pascal"), False), ((None, "table"), (None, "table"), False),
     (("7", "demo"), ("7", "demo"), False), (("7", "demo-1"), ("7", "demo-1"), False)],  # synthetic subjects
)  # fmt: skip
def test_another_recording_of_a_subject_trained_on_is_refused(trained: tuple, tested: tuple, refused: bool):
    before = train(a="train", subject=trained[0], source=trained[1])
    message = leaked(before, b="test", subject=tested[0], source=tested[1])
    assert ("or other recordings of their subjects, the first being 'b.wav'" in str(message)) is refused


def test_a_subject_is_remembered_when_it_is_renamed_or_removed():
    first = train(subject="7", a="train")
    assert train(first, a="train").equals(first)
    assert train(first, subject="7", a="train").equals(first)
    both = train(first, subject="8", a="train")
    assert both.select(["sha256", "subject"]).to_pylist() == [
        {"sha256": "a", "subject": "table/7"},
        {"sha256": "a", "subject": "table/8"},
    ]
    assert all(leaked(both, subject=subject, b="test") for subject in "78")


def test_a_registered_table_without_subjects_can_be_read():
    table = train(a="train")
    assert upgrade_schema(table.drop_columns("subject")).equals(table)
    assert upgrade_schema(table) is table
