"""Output in whatever encoding the terminal or pipe has: a character that it lacks is replaced by a similar one."""

import codecs
import io
import os
import sys
import unicodedata

SIMILAR = str.maketrans(
    {"✓": "+", "·": "-", "–": "-", "—": "-", "−": "-", "─": "-", "━": "-", "…": "...", "≥": ">=", "≤": "<=", "×": "x"}
)


def replace_unknown_characters() -> None:
    """Let no character stop the output of this process and its children."""
    codecs.register_error("similar", _similar)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a test's
            stream.reconfigure(errors="similar")
    if isinstance(sys.stdout, io.TextIOWrapper) and codecs.lookup(sys.stdout.encoding).name != "utf-8":
        os.environ["PYTHONIOENCODING"] = f"{sys.stdout.encoding}:replace"


def _similar(error: UnicodeError) -> tuple[str, int]:
    """An error handler of `codecs`: something similar in ASCII, otherwise a question mark."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(SIMILAR)
    plain = (unicodedata.normalize("NFKD", character)[0] for character in text)  # é is e and an accent
    return "".join(c if c.isascii() else "?" for c in plain), error.end
