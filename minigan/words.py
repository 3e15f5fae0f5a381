"""How things are said to the user: a count, a name, a path in a command, a choice, an error."""

from __future__ import annotations

import shlex
from pathlib import Path

__all__ = ["either", "number_of", "one_line", "printable", "quoted"]


def number_of(count: int, noun: str) -> str:
    """ "1 picture" or "1,200 pictures"."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def printable(name: str) -> str:
    """A file's name for a line of text: control characters, and bytes that are no Unicode, are escaped."""
    return name if name.isprintable() else ascii(name)[1:-1]


def quoted(path: Path) -> str:
    """A path in a command that can be typed: quoted for the shell, and not to be taken for an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


def either(words: tuple[str, ...]) -> str:
    """ "a, b or c"."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def one_line(error: Exception) -> str:
    """What it says, without the file's name, or else what it is."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
