"""The run's configuration: layers and presets, and messages that name the wrong key."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from heartdata.config import NoticeConfig, RunConfig
from heartdata.config_file import build_config, parse_change
from heartdata.errors import ConfigError
from heartdata.settings import contains_password, flatten, unflatten, without_logins
from heartdata.sources import DemoSource


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"training.epoch": 3}, "unknown configuration key 'training.epoch': did you mean epochs?"),
     ({"training.zzz": 3}, "unknown configuration key 'training.zzz'; the keys are init, epochs,"),
     ({"source.subjects_per_clas": 3}, "did you mean subjects_per_class?"),
     ({"training.find_learning_rate": True}, "unknown configuration key 'training.find_learning_rate'"),
     ({"spectrogram.reference": "one"}, "unknown configuration key 'spectrogram.reference'; the keys are rate_hz,"),
     ({"nonsense": 1}, "unknown configuration key 'nonsense'"),
     ({"training.epochs": -1}, "training.epochs = -1: Input should be greater than or equal to 0"),
     ({"split.test_fraction": 0.9}, "split.test_fraction = 0.9"),
     ({"validation.min_peak": "loud"}, "validation.min_peak = 'loud'"),
     ({"source.seed": "x"}, "source.seed = 'x'"),
     ({"spectrogram.low_hz": 900}, "low_hz < high_hz <= rate_hz / 2 must hold"),
     ({"training.init": "imagnet"}, "training.init = 'imagnet': choose imagenet, random, auto, a .safetensors file"),
     ({"training.frozen_epochs": 1001}, "training.frozen_epochs = 1001"),
     ({"training.patience": 1001}, "training.patience = 1001"),
     ({"training.batch": 4097}, "training.batch = 4097"),
     ({"training.width": 65537}, "training.width = 65537"),
     ({"evaluation.bootstrap": 100_001}, "evaluation.bootstrap = 100001"),
     ({"registry.model_name": "a/b"}, "registry.model_name = 'a/b': a name without / :"),
     ({"registry.model_name": "a:b"}, "registry.model_name = 'a:b'"),
     ({"registry.model_name": "a'b"}, "registry.model_name"),
     ({"registry.experiment": "a\nb"}, "registry.experiment = 'a\\nb': a name without / :"),
     ({"registry.experiment": "  "}, "registry.experiment = '  '"),
     ({"registry.ui_url": "127.0.0.1:5000"}, "registry.ui_url = '127.0.0.1:5000': an address that begins with http://"),
     ({"store": ""}, "store = ''"),
     ({"source": 5}, "source = 5: give one of demo, pascal, cinc2016, circor2022, table, mix, or a mapping"),
     ({"source": None}, "source = None: give one of"),
     ({"source": "nowhere"}, "there is no source 'nowhere'"),
     ({"source.name": [1]}, "there is no source [1]: choose one of demo"),
     ({"split.unlabelled": True}, "split.unlabelled keeps recordings for training.contrast, which is 0: set both"),
     ({"training": 5}, "training = 5")],
)  # fmt: skip
def test_a_wrong_setting_is_named(changes: dict, message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        build_config("demo", changes=changes)


def test_all_wrong_settings_are_reported_at_once():
    with pytest.raises(ConfigError, match="training.epochs.*training.batch"):
        build_config("demo", changes={"training.epochs": -1, "training.batch": 0})


def test_the_preset_is_applied_however_the_object_is_made():
    direct = RunConfig.model_validate({"source": {"name": "pascal", "data": "/x"}})
    assert direct.split.collections == build_config("pascal", "/x").split.collections == ("set_b",)
    assert RunConfig().training.init == "random"
    assert build_config("table", "/x").training.init == "auto"


def test_whole_configuration_survives_json():
    config = build_config("table", "/x", changes={"source.columns.label": "Diagnosis"})
    assert RunConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize("key", ["registry.tracking_uri", "registry.ui_url"])
def test_a_user_in_the_uri_of_mlflow_is_refused_and_not_shown(key: str):
    with pytest.raises(ConfigError, match=f"{key} contains a user .*MLFLOW_TRACKING_PASSWORD") as error:
        build_config(changes={key: "https://me:secret@host:5000"})
    assert "secret" not in str(error.value)


def test_valid_values_are_normalised():
    registry = {
        "model_name": " heart beat-2 ",
        "ui_url": "https://mlflow.example.org/",
        "tracking_uri": "sqlite:////home/me@work/mlflow.db",
    }
    config = RunConfig.model_validate({"registry": registry, "training": {"init": "models:/heartbeat@champion"}})
    assert (config.registry.model_name, config.registry.ui_url) == ("heart beat-2", "https://mlflow.example.org")
    assert build_config(changes={"training.init": "my/weights.safetensors"}).training.init == "my/weights.safetensors"


FILE = "source: {name: table, data: /file.csv, columns: {label: D}}\nstore: /in_file\ntraining: {epochs: 7}\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "run.yaml").write_text(FILE)
    return tmp_path / "run.yaml"


def test_the_file_wins_over_the_environment(file: Path, monkeypatch):
    monkeypatch.setenv("HEARTBEAT_STORE", "/in_environment")
    config = build_config(file=file)
    assert (config.source.name, config.source.data, config.store) == ("table", Path("/file.csv"), "/in_file")
    assert build_config().store == "/in_environment"
    monkeypatch.delenv("HEARTBEAT_STORE")
    assert build_config().store == "out"


def test_the_command_line_wins_over_the_file(file: Path):
    config = build_config("table", "/typed.csv", file, {"store": "/typed", "training.epochs": 8})
    assert (config.source.data, config.store, config.training.epochs) == (Path("/typed.csv"), "/typed", 8)
    assert config.source.columns.label == "D"
    assert build_config(data="/typed.csv", file=file).source.data == Path("/typed.csv")


def test_another_source_drops_the_section_in_the_file(file: Path):
    config = build_config("pascal", "/typed", file)
    assert (config.source.name, config.source.data, config.training.epochs) == ("pascal", Path("/typed"), 7)
    assert config.split.collections == ("set_b",)
    with pytest.raises(ConfigError, match="source.data is needed"):
        build_config("pascal", file=file)
    assert build_config("demo", file=file).source == DemoSource()


def test_the_source_may_be_a_name_alone(file: Path):
    file.write_text("source: pascal\nsplit: {collections: [set_a]}\n")
    config = build_config(data="/x", file=file)
    assert (config.source.name, config.split.collections) == ("pascal", ("set_a",))
    assert RunConfig.model_validate({"source": "demo"}) == RunConfig()


def test_the_file_wins_over_the_base(file: Path):
    file.write_text("training: {epochs: 7}\n")
    base = {"source": {"name": "table", "data": "/base.csv"}, "training": {"epochs": 6, "batch": 8}}
    config = build_config(file=file, base=base)
    assert (config.source.name, config.training.epochs, config.training.batch) == ("table", 7, 8)


@pytest.mark.parametrize(
    ("text", "value"), [("a.b=3", 3), ("a.b=[x, y]", ["x", "y"]), ("a.b=", ""), ("a.b=null", None), ("a.b=x=y", "x=y")]
)
def test_a_value_on_the_command_line_is_read_as_yaml(text: str, value: object):
    assert parse_change(text) == ("a.b", value)


def test_yes_no_and_on_are_strings(file: Path):
    file.write_text("validation: {classes: [yes, no], accept_change: true}\n")
    changes = dict(map(parse_change, ("source.columns.subject=No", "decision.temperature=on")))
    config = build_config("table", "/x.csv", file, changes)
    assert (config.source.columns.subject, config.validation.classes) == ("No", ("yes", "no"))
    assert (config.validation.accept_change, config.decision.temperature) == (True, True)
    assert parse_change("a=False") == ("a", False)


@pytest.mark.parametrize(
    ("content", "message"),
    [("training:\n  epochs: 3\n  epochs: 4\n", 'line 3: found duplicate key "epochs" with value "4"'),
     ("training: {epochs: 3\n", "line 2: expected ',' or '}'"),
     ("split:\n\tseed: 3\n", "line 2: found character '\\t'"),
     ("source: *x\n", "line 1: found undefined alias 'x'"),
     ("a: 1\n---\na: 2\n", "line 2: "),
     ("a: \0\n", "unacceptable character"),
     ("a: 2020-13-45\n", "month must be in 1..12")],
)  # fmt: skip
def test_a_syntax_error_in_a_file_is_one_line_with_its_number(content: str, message: str, file: Path):
    file.write_text(content)
    with pytest.raises(ConfigError) as error:
        build_config(file=file)
    assert str(error.value).startswith(f"the configuration {file} cannot be read: {message}")
    assert "\n" not in str(error.value)


def test_a_wrong_change_is_refused_in_one_line():
    with pytest.raises(ConfigError, match="not of the form key=value"):
        parse_change("training.epochs")
    with pytest.raises(ConfigError, match="cannot be read") as error:
        parse_change("a=[1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "uri",
    ["postgresql:///db?user=me&password=secret",
     "mysql://host/db?ssl_ca=/ca.pem&PassWord=secret",
     "postgresql://host/db?sslpassword=secret",
     "postgresql://host/db?%70assword=secret",
     "mssql+pyodbc:///?odbc_connect=DRIVER%3DODBC%3BUID%3Dme%3BPWD%3Dsecret",
     "https://host:5000?token=secret",
     "https://host:5000/#access_token=secret",
     "https://account.blob.core.windows.net/c?sv=1&sig=secret",
     "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=secret",
     "s3://me%3Asecret@bucket",
     "s3://user:secret@bucket/x",
     "s3://me:secret%40bucket"],
)  # fmt: skip
@pytest.mark.parametrize("key", ["registry.tracking_uri", "store", "engine.address", "training.init"])
def test_a_password_anywhere_in_a_uri_is_refused_and_not_shown(key: str, uri: str):
    changes = {key: f"{uri}&x=.safetensors", "engine.name": "dask"}
    with pytest.raises(ConfigError, match=f"{key} contains .*MLFLOW_TRACKING_PASSWORD") as error:
        build_config(changes=changes)
    assert "secret" not in str(error.value)


def test_a_webhook_address_without_http_is_refused_and_not_shown(monkeypatch):
    monkeypatch.setenv("HEARTBEAT_WEBHOOK_URL", "hooks.example.org/T0PSECRET")
    with pytest.raises(ValidationError, match="http://") as error:
        NoticeConfig()
    assert "T0PSECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no answer at http://me:p/w@d@host/api", "no answer at http://host/api"),
        ('could not translate host name "w0rd@db.example.org"', 'could not translate host name "db.example.org"'),
        ("Permission denied: '/home/ana@clinic.org/store'", "Permission denied: '/home/ana@clinic.org/store'"),
        ("models:/heartbeat@champion is not in the registry", "models:/heartbeat@champion is not in the registry"),
    ],
)
def test_logins_are_left_out_of_messages(message: str, shown: str):
    assert without_logins(message) == shown


@pytest.mark.parametrize("given", [str, Path])
@pytest.mark.parametrize(
    "uri", ["s3://user:secret@bucket", "s3:/user:secret@bucket", "zip://a::s3://me:secret@bucket/x"]
)
@pytest.mark.parametrize("key", ["source.data", "source.folder"])
def test_a_password_in_a_path_is_refused_and_not_shown(key: str, uri: str, given: type):
    with pytest.raises(ConfigError, match=f"{key} contains a password") as error:
        build_config("table", "/x", changes={key: given(uri)})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [{"source.missing_values": ["s3://user:secret@bucket"]},
     {"registry.aliases": [Path("s3:/user:secret@bucket")]},
     {"source": {"name": "mix", "sources": [{"name": "pascal", "data": "s3://user:secret@bucket"}]}},
     {"source": {"name": "mix", "sources": [{"name": "demo"}], "labels": {"demo": {"s3://user:secret@bucket": "a"}}}},
     {"source": {"name": "mix", "sources": [{"name": "demo"}], "labels": {"demo": {"a": "s3://user:secret@bucket"}}}},
     {"source": {"name": "mix", "sources": [{"name": "demo"}], "labels": {"s3://user:secret@bucket": 5}}},
     {"validation.overrides": {"s3://user:secret@bucket": {}}},
     {"validation.overrides": {"pascal": {"loudest": ["s3://user:secret@bucket"]}}}],
)  # fmt: skip
def test_a_password_deep_in_a_setting_is_refused_and_not_shown(changes: dict):
    values = {"source": {"name": "table", "data": "/x"}}
    with pytest.raises(ConfigError, match="contains a password") as error:
        build_config(changes=unflatten(flatten(values) | changes))
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "path", ["C:/x@y", "C:/a:b@c", "/data/a:b@c/t.csv", "/ab:/c:d@e", "a=b/key=x@y:z", "a b:/c:d@e"]
)
def test_a_local_path_is_not_taken_for_a_password(path: str):
    config = build_config("table", path, changes={"source.folder": path})
    assert (config.source.data, config.source.folder) == (Path(path), Path(path))


@pytest.mark.parametrize(
    "uri",
    ["postgresql:///db?sslmode=require&sslkey=/home/me/key.pem&passfile=/home/me/.pgpass",
     "http://host:5000?page=a@b",
     "sqlite:////home/me@work/password=x/mlflow.db",
     "s3://bucket/a:b@c",
     "s3://bucket/x?versionId=token",
     "abfs://container@account.dfs.core.windows.net/x",
     "/out/a:b@c"],
)  # fmt: skip
def test_a_uri_without_a_password_is_accepted(uri: str):
    assert not contains_password(uri)
