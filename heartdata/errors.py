"""Faults that a user can mend. Their message is one sentence that names the file and says what to do."""


class HeartbeatError(Exception):
    """Base of every error that is shown to the user as a sentence, without a stack trace."""


class ConfigError(HeartbeatError):
    """A configuration key or value is wrong."""


class SourceError(HeartbeatError):
    """The folder or table of recordings cannot be used as it is."""


class DataRefused(HeartbeatError):
    """A check about the whole table failed, so nothing may be trained on it."""


class LeakError(HeartbeatError):
    """One group (subject, or duplicates) stands in two parts of a split."""


class StoreError(HeartbeatError):
    """The output folder cannot be written or holds something unexpected."""


class ScoreError(HeartbeatError):
    """Labels, answers or probabilities do not fit the score that is asked for."""


class BadAudio(ValueError):
    """One recording cannot be used. Becomes a row with this message; never stops a run."""
