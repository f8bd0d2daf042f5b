"""The version of a store's layout, kept in its marker file, so that an older heartbeat refuses a newer store."""

import json

from heartdata.errors import StoreError

SCHEMA_VERSION = 1
MARKER = json.dumps({"schema": SCHEMA_VERSION}).encode() + b"\n"
WITHOUT_VERSION = (b"", b"heartbeat keeps its files here\n")  # markers of version 1 from before it was recorded


def check_marker(content: bytes, address: str) -> None:
    """Check what the marker at ``address`` says. Raises `StoreError` for a newer store, or what is no marker."""
    if content in WITHOUT_VERSION:
        return
    try:
        version = json.loads(content)["schema"]
    except (ValueError, KeyError, TypeError):
        version = None
    if not isinstance(version, int):
        raise StoreError(
            f"{address} should say a store's version and does not: choose another store, or, if this one is heartbeat's, "
            "delete that file"
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{address.removesuffix('/.heartbeat')} is a store of a newer heartbeat (schema {version}; this one knows "
            f"{SCHEMA_VERSION}): install that version, or choose another store"
        )
