"""The page of a run: the command that opens its links, and labels to review that nobody has filled in yet."""

import pytest

from heartdata.config_file import build_config
from heartdata.storage.store import Store
from tasks.summary import _offer_corrections, _served_by


def test_the_command_in_the_summary_is_that_of_the_run(store: Store):
    changes = {"source.subjects_per_class": 3, "training.init": "random", "store": store.uri}
    config = build_config("demo", changes={**changes, "registry.ui_url": "http://127.0.0.1:5010"})
    command = f"heartbeat up --set source.subjects_per_class=3 --mlflow-port 5010 --store {store.uri}"
    assert _served_by(config, store) == f" (while `{command}` runs)"
    elsewhere = build_config("demo", changes={**changes, "registry.ui_url": "https://ml.example.org"})
    assert "--set registry.ui_url=https://ml.example.org --store" in _served_by(elsewhere, store)
    tracked = build_config("demo", changes={"registry.tracking_uri": "https://ml.example.org"})
    assert _served_by(tracked, store) == ""


@pytest.mark.parametrize(
    ("existing", "is_kept"),
    [
        ("recording,new_label\na.wav,murmur\n", True),
        ("recording;new_label\na.wav;murmur\n", True),  # as a spreadsheet saves it where the comma is decimal
        ("recording,label\na.wav,normal\n", True),  # cannot be read as corrections: it is somebody's
        ("recording,new_label\na.wav,\n", False),
        (None, False),
    ],
)
def test_labels_to_review_are_replaced_only_where_nobody_has_filled_them_in(store: Store, existing: str, is_kept: bool):
    path = store.workpath("latest") / "corrections.csv"
    path.parent.mkdir(exist_ok=True)
    if existing:
        path.write_text(existing)
    _offer_corrections(store.write_bytes("report", ".csv", b"recording,new_label\nb.wav,\n"), store)
    assert (path.read_text() == existing) == is_kept
