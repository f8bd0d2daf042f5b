"""What a check found, and how checks are run."""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from heartdata.errors import HeartbeatError
from heartdata.settings import without_logins

Level = Literal["ok", "warning", "problem"]
Check = Callable[[], "Finding | Iterable[Finding]"]


@dataclass(frozen=True)
class Finding:
    """One line. A problem must be mended before the next night; ``remedy`` is a command, or what to do."""

    level: Level
    text: str
    remedy: str = ""


def run_checks(checks: Iterable[Check]) -> Iterator[Finding]:
    """The findings of all checks; one that fails itself is a warning, and the others still run."""
    for check in checks:
        try:
            findings = check()
            yield from [findings] if isinstance(findings, Finding) else findings
        except (HeartbeatError, OSError, sqlite3.Error) as error:
            yield Finding("problem", without_logins(str(error)))
        except Exception as error:
            name = getattr(check, "__name__", "a check").strip("_").replace("_", " ")
            line = str(error).partition("\n")[0]
            yield Finding("warning", f"{name} could not be checked ({type(error).__name__}: {without_logins(line)})")
