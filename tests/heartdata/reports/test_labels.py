"""Long names are broken where a reader expects it."""

import pytest

from heartdata.reports.labels import broken, shortened


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("normal", ["normal"]),
        ("aortic stenosis", ["aortic", "stenosis"]),
        ("aortic_stenosis", ["aortic_", "stenosis"]),
        ("AorticStenosis", ["Aortic", "Stenosis"]),
        ("ward/p-0.125", ["ward/p-", "0.125"]),
        ("unbreakable", ["unbreakable"]),
        ("", [""]),
    ],
)
def test_names_are_broken_between_words_at_separators_and_capitals(name: str, lines: list[str]):
    assert broken(name, 8) == lines


def test_the_middle_of_a_long_name_is_left_out():
    assert shortened("folder/" + 40 * "x", 20) == f"folder/x…{11 * 'x'}"
