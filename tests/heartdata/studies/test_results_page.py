"""The results page: every study with its metric, and where, when and by which code it was measured."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heartdata.errors import HeartbeatError
from heartdata.scoring.model_names import METADATA_ONLY, NETWORK, SIMPLE_FEATURES
from heartdata.storage.schemas import EXTRAPOLATION, LEARNING_CURVE, STUDY_METRICS
from heartdata.studies.facts import FACTS, Measured, StudyFacts, StudyRecord, read_study, scored_text
from heartdata.studies.protocols import STUDIES, study_named
from heartdata.studies.results import results_page
from heartdata.studies.scores import AT_POINT

SCORES = {NETWORK: 0.572, AT_POINT: 0.606, SIMPLE_FEATURES: 0.534, METADATA_ONLY: 0.361}
MEASURED = Measured(recorded_at="2030-01-02 03:04 UTC", commit="a" * 40, changed=True, machine="2 cores of a|b")


COMMAND = "heartbeat study results --out pages"


def record(name: str, options: str = "") -> StudyRecord:
    study = study_named(name)
    command = f"heartbeat study {name} --data FOLDER --seeds {len(study.seeds)}{options}"
    facts = StudyFacts(
        study=study, command=command, operating_point="none", subject_rule="mean", init="random", measured=MEASURED,
        recordings=460, subjects=165, labels={"normal": 460}, collections={"set_b": 460},
    )  # fmt: skip
    rows = [
        (arm, model, metric, value, 0.01, value - 0.05, value + 0.05, 0.0, 0.0, 0.0)
        for arm in study.arms
        for model, value in SCORES.items()
        for metric in (study.metric, "accuracy")
    ]
    if not study.is_learning_curve:
        return StudyRecord(facts, pd.DataFrame(rows, columns=STUDY_METRICS.names))
    gains = [(NETWORK, 0.7, 0.6, 0.8, 0.02, 80.0, 50.0, 160.0, 1.0)]
    return StudyRecord(
        facts,
        pd.DataFrame(rows, columns=STUDY_METRICS.names),
        pd.DataFrame([(NETWORK, study.arms[-1], 105.0, 0.5, 0.4, 0.6, 0.1)], columns=LEARNING_CURVE.names),
        pd.DataFrame(gains, columns=EXTRAPOLATION.names),
    )


def test_each_study_has_a_row_with_its_models_its_reference_and_a_link():
    page = results_page([record("pascal-b")], COMMAND)
    assert (
        "| [`pascal-b`](pascal-b/README.md) |  | 460 recordings of 165 subjects | macro-F1 | 0.572 ± 0.010 (0.522-0.622) | 0.606 ± 0.010 (0.556-0.656) | "
        "0.534 ± 0.010 (0.484-0.584) | 0.361 ± 0.010 (0.311-0.411) | 0.470 |"
    ) in page
    assert f"Made by `{COMMAND}` from" in page
    assert (
        "| [`pascal-b`](pascal-b/README.md) | `heartbeat study pascal-b --data FOLDER --seeds 3` | 2030-01-02" in page
    )
    assert "changed" not in page
    assert "How they are measured" not in page
    assert "| `aaaaaaaaaaaa` with uncommitted changes | 2 cores of a\\|b |" in page
    others = [name for name in STUDIES if name != "pascal-b"]
    assert f"Not measured here: {', '.join(f'`{name}`' for name in others)}." in page


def test_each_arm_has_a_row_but_of_a_learning_curve_the_largest_alone_with_its_sentence():
    page = results_page([record("article"), record("learning-curve")], COMMAND, "../studies.md", "changes.md")
    assert page.count("[`article`](article/README.md) | ") == 2 + 1  # one more for the machine
    assert "| [`learning-curve`](learning-curve/README.md) | all training subjects |" in page
    assert "1/16" not in page
    assert "would take about 80 more training subjects" in page
    assert "[changes](changes.md)" in page
    assert "How they are measured: [studies](../studies.md)." in page


@pytest.mark.parametrize("options", [" --set training.init=random", " --source table"])
def test_a_study_of_other_settings_than_its_own_is_marked(options: str):
    page = results_page([record("pascal-b", options)], COMMAND)
    assert "| [`pascal-b`](pascal-b/README.md) (changed) |" in page
    assert f"`heartbeat study pascal-b --data FOLDER --seeds 3{options}`" in page


def test_another_number_of_seeds_is_marked_too():
    once = record("pascal-b")
    once = StudyRecord(once.facts.model_copy(update={"command": "heartbeat study pascal-b --seeds 1"}), once.metrics)
    assert "Changed: run with another source" in results_page([once], COMMAND)


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"recordings": 1200, "subjects": 90}, "1,200 recordings of 90 subjects"),
        ({"recordings": 573, "subjects": 268, "unnamed": 105}, "573 recordings of 268 subjects, 105 of them unnamed"),
        ({"recordings": 688, "subjects": 688, "unnamed": 688}, "688 recordings of unnamed subjects"),
        ({"recordings": 118, "subjects": 105, "unnamed": 105},
         "118 recordings of unnamed subjects, 105 without near-duplicates"),
        ({"recordings": 400, "subjects": 106, "patients": 116}, "116 patient ids, with 400 recordings of 106 subjects"),
    ],
)  # fmt: skip
def test_what_was_scored_says_whether_subjects_are_named(counts: dict[str, int], text: str):
    facts = record("pascal-b").facts.model_copy(update=counts)
    assert scored_text(facts) == text


def test_a_study_is_read_again_from_its_folder(tmp_path: Path):
    written = record("learning-curve")
    tables = {"metrics": (written.metrics, STUDY_METRICS), "curve": (written.curve, LEARNING_CURVE),
              "extrapolation": (written.extrapolation, EXTRAPOLATION)}  # fmt: skip
    for name, (frame, schema) in tables.items():
        pq.write_table(pa.Table.from_pandas(frame, schema=schema, preserve_index=False), tmp_path / f"{name}.parquet")
    (tmp_path / FACTS).write_text(written.facts.model_dump_json())
    read = read_study(tmp_path)
    assert read.facts == written.facts
    assert results_page([read], COMMAND) == results_page([written], COMMAND)


@pytest.mark.parametrize("content", [None, "{}", "no json"])
def test_a_study_of_another_version_is_named_with_what_to_do(tmp_path: Path, content: str | None):
    folder = tmp_path / "study-pascal-b"
    folder.mkdir()
    if content is not None:
        (folder / FACTS).write_text(content)
    with pytest.raises(HeartbeatError, match="type `heartbeat study pascal-b --data FOLDER`"):
        read_study(folder)


def test_the_folder_of_a_study_that_is_unknown_is_to_be_deleted(tmp_path: Path):
    (tmp_path / "study-ghost").mkdir()
    with pytest.raises(HeartbeatError, match="there is no study 'ghost', so delete that folder"):
        read_study(tmp_path / "study-ghost")
