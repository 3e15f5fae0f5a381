"""What is said to the user is a line, and what is to be typed can be typed."""

from __future__ import annotations

import os
from pathlib import Path

from minigan.words import number_of, one_line, printable, quoted


def test_a_reason_is_one_line_without_the_name():
    """The name stands before it already."""
    assert one_line(PermissionError(13, "Permission denied", "cats/x.png")) == "Permission denied"
    assert one_line(ValueError("not\n  a picture")) == "not a picture"
    assert one_line(EOFError()) == "EOFError"


def test_names_fit_on_a_line():
    """Whatever a file is called, what is printed of it is one line of text that any terminal can show."""
    assert printable("cats/猫 é.png") == "cats/猫 é.png"
    assert printable("line\nbreak\x1b[2J.png") == r"line\nbreak\x1b[2J.png"
    assert printable(os.fsdecode(b"\xff.png")).isascii()


def test_a_path_in_a_command_is_one_word_and_no_option():
    """What is printed to be typed can be typed."""
    assert quoted(Path("cats")) == "cats"
    assert quoted(Path("my cats")) == "'my cats'"
    assert quoted(Path("-cats")) == "./-cats"
    assert quoted(Path("/-cats")) == "/-cats"


def test_counts_agree_with_their_noun():
    """One is the only singular."""
    assert [number_of(n, "file") for n in (0, 1, 2, 1200)] == ["0 files", "1 file", "2 files", "1,200 files"]
