"""Long names of classes and files: broken into lines between words, or with their middle left out."""

import re
from collections.abc import Callable

_BREAKS = re.compile(r"(?<=[/\\_-])|(?<=\.)(?!\d)|(?<=[a-z])(?=[A-Z])")


def pieces(word: str) -> list[str]:
    """A word in pieces that end with / _ - or a dot, or before a capital letter in ``camelCase``."""
    return _BREAKS.split(word)


def broken(name: object, length: int, size: Callable[[str], int] = len) -> list[str]:
    """A name in lines of at most ``length``, by ``size``; a word or piece of one is longer only if it has no `pieces`."""
    lines = [""]
    for number, word in enumerate(str(name).split(" ")):
        space = " " if number else ""
        for piece in [word] if size(word) <= length else pieces(word):
            if size(lines[-1] + space + piece) <= length:
                lines[-1] += space + piece
            elif lines[-1]:
                lines.append(piece)
            else:
                lines[-1] = piece
            space = ""
    return lines


def shortened(name: object, length: int = 40) -> str:
    """A long name with its middle left out; paths of recordings differ at the end."""
    text = str(name)
    return text if len(text) <= length else f"{text[:8]}…{text[9 - length :]}"


def wrapped(name: object, length: int = 20) -> str:
    """A class's name beside a plot: `shortened` and `broken`."""
    return "\n".join(broken(shortened(name, 3 * length), length))


def in_legend(name: object) -> str:
    """`wrapped`, with a blank before an underscore: a legend leaves out names that begin with one."""
    text = wrapped(name, 24)
    return f" {text}" if text.startswith("_") else text
