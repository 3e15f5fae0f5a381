"""What the tests of the commands share."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from minigan.command import run_command


def refused(capsys, run: Callable, *arguments) -> str:
    """The one line that `run(arguments)` ends with, as the user sees it: status 2, nothing else on stderr."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        run_command(lambda: run(list(map(str, arguments))))
    assert end.value.code == 2
    line = capsys.readouterr().err
    assert re.fullmatch(r"minigan: error: [^\n]+\n", line)
    return line
