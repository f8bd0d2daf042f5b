"""Exit statuses of the command `heartbeat`, for scripts."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means."""

    DONE = 0
    FAULT = 1  # unexpected: see the log
    USER_ERROR = 2  # the message says what to do
    NOTHING_NEW = 3
    DATA_REFUSED = 4
    GATES_NOT_PASSED = 5
