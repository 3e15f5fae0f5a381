"""How every command ends that cannot do what it was asked for: in one line, whatever is in its way."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import refused


def runs(folder, **streams):
    """`python -m minigan.runs` as a process of its own, which says nothing unless it is asked to on `streams`."""
    command = [sys.executable, "-m", "minigan.runs", str(folder)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, **streams)


def test_the_end_of_the_memory(capsys):
    """Of a step it is known what would fit (tests/test_graph.py), of the rest what was asked for."""
    said = "the memory is at its end (Unable to allocate 1.00 EiB for an array"
    assert said in refused(capsys, lambda _: np.empty(1 << 60, np.uint8))


def test_what_the_system_refuses(capsys, tmp_path):
    """Wherever nobody has thought of it: what, and why."""
    folder = tmp_path / "name"
    folder.mkdir()
    assert refused(capsys, lambda _: folder.read_bytes()) == f"minigan: error: {folder}: Is a directory\n"
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert f"loop: {os.strerror(errno.ELOOP)}" in refused(capsys, lambda _: (tmp_path / "loop").read_bytes())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_full_disk_under_stdout(tmp_path):
    """One line, and no word of Python's about what it could not write in the end."""
    with open("/dev/full", "w") as full:
        done = runs(tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (2, "minigan: error: No space left on device\n")


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are POSIX's")
def test_nobody_wants_to_hear(tmp_path):
    """A stdout that was closed is silence, and no error."""
    done = runs(tmp_path, preexec_fn=lambda: os.close(1))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_without_letters(tmp_path):
    """What stdout cannot write of a name is written as its code."""
    (tmp_path / "kätzchen").mkdir()
    done = runs(tmp_path, stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "/k\\xe4tzchen: no run's folder" in done.stdout
