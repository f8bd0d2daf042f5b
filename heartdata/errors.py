"""Errors that a user can fix. Their message is one sentence that names the file and says what to do."""

# Control characters, which a terminal obeys; names of files and labels may have them.
CONTROLS = {code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class HeartbeatError(Exception):
    """A fault that you can fix: the message is one sentence that names the file or setting and says what to do."""

    def __str__(self) -> str:
        return super().__str__().translate(CONTROLS)


class Fault(HeartbeatError):
    """Something unexpected, such as a bug; the message names the log, which has the stack trace."""


class ConfigError(HeartbeatError):
    """A configuration key or value is wrong."""


class SourceError(HeartbeatError):
    """The folder or table of recordings cannot be used as it is."""


class DataRefused(HeartbeatError):
    """A check of the whole table failed, so nothing may be trained on it."""


class LeakError(Exception):
    """Leakage: a group (a subject, or duplicates) is in more than one part of a split. A bug, as the split prevents it."""


class StoreError(HeartbeatError):
    """The store cannot be written, or a file in it is missing or damaged."""


class ScoreError(HeartbeatError):
    """Labels, decisions or probabilities do not fit the requested score."""


class BadAudio(ValueError):
    """One recording cannot be used; the message says why. In a run it becomes a row, and never stops it."""
