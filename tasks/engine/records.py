"""Which of Prefect's records of results are decoded: only JSON of classes that stages return.

A record names how it is decoded, pickle or any function among others, and Prefect's JSON calls what ``__class__`` names.
So whoever can write a file in the folder of results could run code in the next night's run.
"""

import json
from typing import Any

from prefect.serializers import JSONSerializer
from pydantic_core import from_json

from heartdata.storage.store import Artifact
from tasks import results

CLASSES = {
    f"{kind.__module__}.{kind.__qualname__}"
    for kind in (Artifact, *vars(results).values())
    if isinstance(kind, type) and issubclass(kind, (Artifact, results.Result))
}
JSON = JSONSerializer().model_dump()
FIELDS = {"metadata", "result"}  # Prefect also reads older ones, which would win over these


class UntrustedRecord(ValueError):
    """A record that stages do not write."""


def refuse_untrusted(content: bytes) -> None:
    """Raise `UntrustedRecord` unless decoding the record makes plain JSON and results of stages only.

    Raises ValueError where the record is no JSON, which Prefect cannot decode either.
    """
    _decode(content.decode())  # all of it, as Prefect does where its model of a record refuses one
    try:
        record = from_json(content)  # the parser of that model, which is stricter
        serializer, result = record["metadata"]["serializer"], record["result"]
        if record.keys() != FIELDS or serializer["type"] != "json" or not serializer.items() <= JSON.items():
            raise UntrustedRecord("it is not serialised as stages do")
        _decode(result)
    except UntrustedRecord:
        raise
    except Exception as error:
        raise UntrustedRecord("it is not written as stages write") from error


def _decode(text: str) -> None:
    try:
        json.loads(text, object_hook=_refuse_other_class)
    except RecursionError as error:
        raise UntrustedRecord("it is nested too deeply") from error


def _refuse_other_class(decoded: dict[str, Any]) -> None:
    if "__exc_type__" in decoded or ("__class__" in decoded and str(decoded["__class__"]) not in CLASSES):
        raise UntrustedRecord("it names a class that stages do not return")
