"""Exit statuses of the command `heartbeat`, for scripts: what each means, and which one an error gives."""

from enum import IntEnum

from heartdata.errors import DataRefused, Fault, HeartbeatError


class ExitCode(IntEnum):
    """A command's exit status, and its ``meaning``."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """An integer that knows what it means."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    DONE = 0, "done; a run registered a version that became the champion"
    FAULT = 1, "unexpected fault: the message names the log"
    USER_ERROR = 2, "something to correct: the message says what"
    NOTHING_NEW = 3, "nothing new, or too little to train on yet"
    DATA_REFUSED = 4, "the data were refused, and nothing was trained on them"
    GATES_NOT_PASSED = 5, "a version was registered, but is not the champion: a gate of promotion was not passed"
    STOPPED = 130, "stopped by Ctrl-C"


def code_of(error: HeartbeatError) -> ExitCode:
    """The exit status for an error that is shown as a sentence."""
    if isinstance(error, DataRefused):
        return ExitCode.DATA_REFUSED
    return ExitCode.FAULT if isinstance(error, Fault) else ExitCode.USER_ERROR


def help_text() -> str:
    """All exit statuses, a line each, for the end of ``--help``."""
    return "\n".join(["Exit statuses:", *(f"{code.value:3}  {code.meaning}" for code in ExitCode)])
