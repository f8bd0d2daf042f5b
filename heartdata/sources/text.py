"""Text that people type into tables: cleaned for comparison, and shortened for messages."""

import re
import unicodedata
from collections.abc import Collection

# Show nothing, though Unicode's category is not that of format or control characters: fillers and variation selectors.
FILLERS = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
FORMS_OF_WIDTH = re.compile("[\uff00-\uffef]")
JOINERS = "\u200c\u200d"
WITHOUT_JOINERS = str.maketrans("", "", JOINERS)
# What looks the same, so that one may have been typed for the other: Cyrillic letters (in lower case) and dashes.
LOOK_ALIKES = str.maketrans("авеѕіјкмнорстух‐‑‒–—―−", "abesijkmhopctyx-------")
CELL_LENGTH = 80  # of a cell in a message
PATH_LENGTH = 200  # of a cell that is a path


def visible(text: str) -> str:
    """``text`` with composed accents (Unicode NFC), without the characters that show nothing.

    Zero-width joiners stay inside words of scripts that are spelled with them, such as Persian and Hindi.
    """
    if _is_plain(text):
        return text
    if not text.isprintable() or FILLERS.search(text):
        text = "".join(c for i, c in enumerate(text) if not _shows_nothing(c) or _joins(text, i))
    return unicodedata.normalize("NFC", text)


def clean_cell(cell: str) -> str:
    """A cell in one form: `visible`, full-width and half-width forms as ordinary ones, single blanks, none around it.

    Not NFKC, which would also rewrite a label's ½, ² or ﬁ.
    """
    if _is_plain(cell):
        return " ".join(cell.split())
    text = visible(cell)
    if FORMS_OF_WIDTH.search(text):
        text = unicodedata.normalize(
            "NFC", FORMS_OF_WIDTH.sub(lambda form: unicodedata.normalize("NFKC", form[0]), text)
        )
    return " ".join(text.split())


def is_unclean(cell: str) -> bool:
    """Whether `clean_cell` changes more of ``cell`` than blanks and accents."""
    if _is_plain(cell):
        return False
    may_be = not cell.isprintable() or FILLERS.search(cell) or FORMS_OF_WIDTH.search(cell)
    return bool(may_be) and clean_cell(cell) != " ".join(unicodedata.normalize("NFC", cell).split())


def same_text(value: str) -> str:
    """What the spellings of one value have in common: letter case, a number's ``.0``, joiners, and forms of a character
    or `LOOK_ALIKES`.
    """
    if value.isascii():
        text = value.casefold()
    else:
        text = unicodedata.normalize("NFKC", value.translate(WITHOUT_JOINERS)).casefold().translate(LOOK_ALIKES)
        text = re.sub(r"\d", lambda digit: str(unicodedata.decimal(digit[0])), text)
    return re.sub(r"^([-+]?\d+)\.0+$", r"\1", text)  # a spreadsheet's 1.0


def shortened(text: str, length: int = CELL_LENGTH) -> str:
    """``text`` of at most ``length`` characters, with an ellipsis in place of a longer one's middle."""
    half = length // 2
    return text if len(text) <= length else f"{text[:half]}…{text[1 - half :]}"


def quoted(cell: str) -> str:
    """A cell as it is written in messages: in quotes, shortened, with escapes for what shows nothing."""
    return repr(shortened(cell))


def enumerated(texts: Collection[str], most: int = 20) -> str:
    """``texts`` with commas between them; of more than ``most``, the count of the others."""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(list(texts)[:most]) + more


def _is_plain(text: str) -> bool:
    """Whether ``text`` has only ASCII characters that show something, as nearly all cells and paths."""
    return text.isascii() and text.isprintable()


def _shows_nothing(character: str) -> bool:
    is_format = unicodedata.category(character) in ("Cf", "Cc") and not character.isspace()
    return is_format or FILLERS.match(character) is not None


def _joins(text: str, place: int) -> bool:
    """Whether a joiner changes how its neighbours are written: after a virama, or between Arabic letters (RFC 5892)."""
    before, after = text[:place][-1:], text[place + 1 :][:1]
    if text[place] not in JOINERS or not (before and after.isalpha()):
        return False
    is_virama = unicodedata.combining(before) == 9
    return is_virama or unicodedata.bidirectional(before) == unicodedata.bidirectional(after) == "AL"
