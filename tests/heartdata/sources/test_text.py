"""What people type into cells: characters that show nothing, widths, and lengths that no message can hold."""

import pytest

from heartdata.sources.text import clean_cell, enumerated, is_unclean, quoted, same_text, shortened


@pytest.mark.parametrize(
    ("cell", "cleaned"),
    [("P001\u200b", "P001"), ("\ufeffP001", "P001"), ("P0\u00ad01", "P001"), ("P\u206001", "P01"),
     ("\u202aC:\\a.wav\u202c", "C:\\a.wav"), ("\u2066P1\u2069", "P1"), ("P1\x00", "P1"), ("P1\ufe0f", "P1"), ("P1\u3164", "P1"),
     ("P\u200d1", "P1"), ("P1\u200c", "P1"), ("Ｐ００１", "P001"), ("ﾊﾞ", "バ"), ("P\u3000 1\u00a0", "P 1"), ("e\u0301\u200b", "é"),
     ("½ m² ﬁx", "½ m² ﬁx"), ("می\u200cشود", "می\u200cشود"), ("क्\u200dष", "क्\u200dष"), (" a\tb\n", "a b")],
)  # fmt: skip
def test_a_cell_in_one_form(cell: str, cleaned: str):
    assert clean_cell(cell) == cleaned
    assert clean_cell(cleaned) == cleaned
    assert not is_unclean(cleaned)


def test_blanks_and_accents_alone_are_not_unclean():
    assert not any(map(is_unclean, ["", "P 1 ", "P\u00a01", "e\u0301", "a\tb"]))
    assert all(map(is_unclean, ["P1\u200b", "１", "P\x001"]))


@pytest.mark.parametrize(
    ("one", "other"),
    [("Normal", "normal"), ("1.0", "1"), ("P²", "P2"), ("ﬁbrillation", "Fibrillation"), ("P٣", "P3"),
     ("علی\u200cرضا", "علیرضا"), ("𝟏", "1")],
)  # fmt: skip
def test_spellings_of_one_value(one: str, other: str):
    assert same_text(one) == same_text(other)
    assert same_text(one + "1") != same_text(other)


def test_long_texts_lose_their_middle():
    assert shortened("a" * 80) == "a" * 80
    long = shortened("a" * 5_000 + "b" * 5_000)
    assert (len(long), long[0], long[40], long[-1]) == (80, "a", "…", "b")
    assert quoted("P1\u200b") == r"'P1\u200b'"
    assert enumerated(["a", "b", "c"], most=2) == "a, b and 1 more"
