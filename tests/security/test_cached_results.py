"""Prefect's records of cached results name how they are decoded: what could run code is not decoded, and computed again."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow
from prefect.results import ResultRecord
from prefect.serializers import JSONSerializer
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH

from heartdata.storage.store import Artifact, Store
from tasks.engine.records import UntrustedRecord, refuse_untrusted
from tasks.engine.stage import stage
from tasks.results import SliceResult

ARTIFACT = {"name": "t.txt", "digest": "0", "rows": 1, "counts": {}}
Change = Callable[[dict[str, Any], Any], dict[str, Any]]  # of a record, to one that runs code


def result(value: Any) -> Change:
    return lambda record, planted: {**record, "result": json.dumps(value(planted))}


def serializer(**fields: Any) -> Change:
    def change(record: dict[str, Any], planted: Any) -> dict[str, Any]:
        pickled = base64.encodebytes(planted.pickle).decode()
        return {"metadata": {**record["metadata"], "serializer": fields}, "result": pickled}

    return change


def decoder(record: dict[str, Any], planted: Any) -> dict[str, Any]:
    plain = record["metadata"]["serializer"]
    metadata = {**record["metadata"], "serializer": {**plain, "object_decoder": "subprocess.getoutput"}}
    return {"metadata": metadata, "result": json.dumps({planted.shell: 1})}


def old_format(record: dict[str, Any], planted: Any) -> dict[str, Any]:
    return {**record, "serializer": {"type": "pickle"}, "data": base64.encodebytes(planted.pickle).decode()}


def without_serializer(record: dict[str, Any], planted: Any) -> dict[str, Any]:
    return {"metadata": {}, "result": base64.encodebytes(planted.pickle).decode()}


def beside(**fields: Any) -> Change:
    """Fields for which Prefect's model refuses the record, so that it decodes the whole file as JSON."""

    def change(record: dict[str, Any], planted: Any) -> dict[str, Any]:
        code = {"__class__": "subprocess.getoutput", "data": [planted.shell]}
        return {"metadata": {**record["metadata"], **code, **fields}, "result": record["result"]}

    return change


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


ATTACKS: dict[str, Change] = {
    "pickle": serializer(type="pickle"),
    "cloudpickle": serializer(type="pickle", picklelib="cloudpickle"),
    "no serializer": without_serializer,
    "older format": old_format,
    "a function as decoder": decoder,
    "a function as class": result(lambda p: {"__class__": "subprocess.getoutput", "data": [p.shell]}),
    "within a result": result(lambda p: [{"a": {"__class__": "subprocess.getoutput", "data": {"cmd": p.shell}}}]),
    "not a time": beside(expiration="x"),
    "not a serializer's fields": beside(serializer="json"),
    "half a character": beside(x="\ud800"),
    "nested deeply": beside(x=nested(300)),
}


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_a_record_that_would_run_code_is_not_decoded(attack: Change, planted, store: Store):
    ran = []

    @stage("slices")
    def body(inputs: str, store: Store) -> SliceResult:
        ran.append(inputs)
        file = store.write_bytes("t", ".txt", inputs.encode())
        return SliceResult(attributes=file, metrics=file)

    def run() -> SliceResult:
        return flow(lambda: body(str(store.root), store), name="attacked", validate_parameters=False)()

    first = run()
    records = Path(PREFECT_LOCAL_STORAGE_PATH.value())
    (file,) = (
        path
        for path in records.iterdir()
        if path.name.startswith("slices") and first.metrics.digest in path.read_text()
    )
    attacked = json.dumps(attack(json.loads(file.read_text()), planted)).encode()
    ResultRecord.deserialize(attacked, backup_serializer=JSONSerializer())
    assert planted.executed  # by Prefect alone
    planted.trace.unlink()

    file.write_bytes(attacked)
    assert [run(), run()] == [first, first]
    assert len(ran) == 2
    assert not planted.executed


PLAIN = {"type": "json"}


def record(value: str, **metadata: Any) -> bytes:
    return json.dumps({"metadata": {"serializer": PLAIN, **metadata}, "result": value}).encode()


def test_what_stages_write_is_decoded():
    refuse_untrusted(record("[1, 2]"))
    refuse_untrusted(record(json.dumps({"__class__": "heartdata.storage.store.Artifact", "data": ARTIFACT})))
    assert ResultRecord.deserialize(record(json.dumps({"a": 1}))).result == {"a": 1}
    assert Artifact(**ARTIFACT).name == "t.txt"


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b'{"metadata": [], "result": "1"}',
        b'{"metadata": {"serializer": {"type": "json"}}, "result": 1}',
        record("1", serializer={"type": "compressed/json"}),
        record("1", serializer={"jsonlib": "json"}),
        record('{"__exc_type__": "builtins.SystemExit", "message": "0"}'),
        record('{"__class__": "tasks.results.Field", "data": {}}'),
        record('{"__class__": ["tasks.results.Field"], "data": {}}'),
        record("1", serializer="json"),
        record("no JSON"),
        record("1" * 5000),
        record("[" * 50_000 + "]" * 50_000),
        b"[" * 50_000 + b"]" * 50_000,
    ],
)
def test_other_records_are_refused(content: bytes):
    with pytest.raises(UntrustedRecord):
        refuse_untrusted(content)


@pytest.mark.parametrize("content", [b"", b"{", b"\x80\x04"])
def test_what_is_no_json_counts_as_torn(content: bytes):
    with pytest.raises(ValueError, match=".") as raised:
        refuse_untrusted(content)
    assert not isinstance(raised.value, UntrustedRecord)
