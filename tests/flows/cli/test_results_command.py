"""`heartbeat study results`: one page from the studies of a store, and the page of each."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from heartdata.scoring.model_names import NETWORK
from heartdata.storage.schemas import STUDY_METRICS
from heartdata.studies.facts import FACTS, METRICS, Measured, StudyFacts
from heartdata.studies.protocols import study_named


def recorded(store: Path, name: str) -> Path:
    """A study of one row in the store."""
    study = study_named(name)
    facts = StudyFacts(recordings=1, subjects=1, labels={"normal": 1}, collections={}, 
        study=study, command=f"heartbeat study {name} --seeds {len(study.seeds)}", operating_point="none", subject_rule="mean", init="random",
        plots=("comparison",), measured=Measured(recorded_at="2030-01-02 03:04 UTC"),
    )  # fmt: skip
    rows = [(arm, NETWORK, study.metric, 0.5, 0.1, 0.4, 0.6, 0.0, 0.0, 0.0) for arm in study.arms]
    table = pa.Table.from_pandas(pd.DataFrame(rows, columns=STUDY_METRICS.names), schema=STUDY_METRICS)
    folder = store / "latest" / f"study-{name}"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / METRICS)
    (folder / FACTS).write_text(facts.model_dump_json())
    (folder / "comparison.png").write_bytes(b"png")
    return folder


def test_the_page_of_results_and_each_studys_own_are_made_from_the_store(heartbeat, tmp_path: Path):
    for name in ("cinc2016-lodo", "pascal-b"):
        recorded(tmp_path / "store", name)
    (tmp_path / "store" / "latest" / "study-article").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "changes.md").write_text("by hand")
    code, _, out = heartbeat("study", "results", "--store", tmp_path / "store", "--out", tmp_path / "out")
    assert code == 0
    text = " ".join(out.split())
    assert "0.500 ± 0.100 (0.400-0.600)" in text
    assert "left out:" in text
    assert "heartbeat study article --data FOLDER" in text
    page = (tmp_path / "out" / "README.md").read_text()
    assert page.index("pascal-b/README.md") < page.index("cinc2016-lodo/README.md")  # as `list` has them
    assert "[changes](changes.md)" in page
    assert (tmp_path / "out" / "pascal-b" / "comparison.png").read_bytes() == b"png"
    assert "Made by `heartbeat study pascal-b --seeds 3`." in (tmp_path / "out" / "pascal-b" / "README.md").read_text()
    assert (tmp_path / "out" / "changes.md").read_text() == "by hand"


def test_a_store_without_studies_says_what_to_do(heartbeat, tmp_path: Path):
    code, err, _ = heartbeat("study", "results", "--store", tmp_path / "mistyped")
    assert code == 2
    assert "there is no store in" in err
    (tmp_path / "latest").mkdir()
    code, err, _ = heartbeat("study", "results", "--store", tmp_path)
    assert code == 2
    assert "no study has ended in" in err


@pytest.mark.parametrize(
    "option", [("--seeds", 2), ("--set", "training.epochs=1"), ("--data", "x"), ("--source", "table")]
)
def test_options_that_show_nothing_are_refused(heartbeat, option: tuple[str, object]):
    for name in ("list", "results"):
        code, err, _ = heartbeat("study", name, *option)
        assert code == 2
        assert f"`heartbeat study {name}` takes no {option[0]}: leave it out" in err
