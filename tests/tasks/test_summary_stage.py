"""The page of a run: the command that opens its links."""

from heartdata.config_file import build_config
from heartdata.storage.store import Store
from tasks.summary import _served_by


def test_the_command_in_the_summary_is_that_of_the_run(store: Store):
    changes = {"source.subjects_per_class": 3, "training.init": "random", "store": store.uri}
    config = build_config("demo", changes={**changes, "registry.ui_url": "http://127.0.0.1:5010"})
    command = f"heartbeat up --set source.subjects_per_class=3 --mlflow-port 5010 --store {store.uri}"
    assert _served_by(config, store) == f" (while `{command}` runs)"
    elsewhere = build_config("demo", changes={**changes, "registry.ui_url": "https://ml.example.org"})
    assert "--set registry.ui_url=https://ml.example.org --store" in _served_by(elsewhere, store)
    tracked = build_config("demo", changes={"registry.tracking_uri": "https://ml.example.org"})
    assert _served_by(tracked, store) == ""
