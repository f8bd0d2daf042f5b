"""What is shown in the terminal: names whole where they fit, and each note once."""

import io

from rich.console import Console

from flows.cli.console import Terminal, rich_table

NAME = "ward-a/patient_0012_left.wav"


def test_names_in_tables_are_broken_only_at_their_separators():
    def lines(width: int) -> list[str]:
        output = io.StringIO()
        Console(file=output, width=width).print(
            rich_table("T", [{"file": NAME, "reason": f"is like [b] {NAME} of 0.125 s"}])
        )
        return [line.rstrip() for line in output.getvalue().splitlines()]

    assert f" {NAME}  is like [b] {NAME} of 0.125 s" in lines(100)
    cells = [[line[1:22].strip(), line[22:].strip()] for line in lines(44)[4:-1]]
    assert "".join(left for left, _ in cells) == NAME
    assert all(left == "" or left[-1] in "/_-." or left.endswith("wav") for left, _ in cells)


def test_the_terminal_remembers_the_notes_it_showed_and_aligns_stages():
    output = io.StringIO()
    with Terminal(Console(file=output, width=100)) as terminal:
        terminal.remarked("one")
        terminal.finished("initial weights", 0.0, "x")
        terminal.finished("split", 0.0, "x")
    assert terminal.notes == {"one"}
    one, two = (line for line in output.getvalue().splitlines() if line.endswith(" s  x"))
    assert len(one) == len(two)
