"""An unexpected error as a sentence that names the log, which has the stack trace."""

import os
import re
import tempfile
import traceback

from flows.local.servers import API_VARIABLE
from heartdata.errors import Fault, HeartbeatError
from heartdata.settings import without_login, without_logins

FULL = "database or disk is full"  # SQLite's, somewhere in what MLflow makes of it


def sentence_of(error: Exception, log: str) -> HeartbeatError:
    """What to do where a disk or a server is the cause; anything else is a `Fault`."""
    text = FULL if FULL in str(error) else without_logins((str(error).splitlines() or [""])[0])
    if isinstance(error, OSError) or _is_of_database(error):
        return HeartbeatError(f"reading or writing failed ({text}): fix that and run again; log: {log}")
    if lost := _lost_server(error):
        return HeartbeatError(
            f"the {lost} does not answer any more: start it and run again; what was finished is kept; log: {log}"
        )
    if _failed_in_server(error):
        return HeartbeatError(
            f"the Prefect server failed ({text}): free some disk if that is full, or see the server's log, and run again; what "
            f"was finished is kept; log: {log}"
        )
    return Fault(f"the command failed unexpectedly ({type(error).__name__}: {text}); log: {log}")


def logged(error: Exception) -> HeartbeatError:
    """`sentence_of` an error that is in no log yet: one of its own is written to the folder for temporary files."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="heartbeat-", suffix=".log", delete=False, encoding="utf-8"
        ) as log:
            log.write("".join(traceback.format_exception(error)))
        return sentence_of(error, log.name)
    except OSError as unwritten:
        return sentence_of(error, f"none ({unwritten.strerror})")


def _is_of_database(error: Exception) -> bool:
    """Whether an SQLite database had no room, or a database server refused or was lost."""
    from sqlalchemy.exc import OperationalError

    cause = error.__cause__ or error  # MLflow wraps it
    from_server = isinstance(cause, OperationalError) and not type(cause.orig).__module__.startswith("sqlite3")
    return from_server or FULL in str(error)


def _failed_in_server(error: Exception) -> bool:
    """Whether a Prefect server answered that it failed itself, as with a full disk."""
    from httpx import HTTPStatusError

    return isinstance(error, HTTPStatusError) and error.response.is_server_error


def _lost_server(error: Exception) -> str:
    """The server that an error says is away, or nothing."""
    from httpx import TransportError

    if isinstance(error, TransportError):
        return f"Prefect server at {without_login(os.environ.get(API_VARIABLE, ''))}"
    # MlflowException has no kind of its own for it
    return "MLflow server" if re.match("API request to .* Max retries exceeded", str(error)) else ""
