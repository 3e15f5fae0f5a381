"""What is said to the user when the input is bad."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(Exception):
    """Bad input. Its message is one line: what is wrong, where, and what to do about it; the commands print no more."""
