"""What a training says: to a person, into a file, to a program and to nobody; and that its last words can be typed."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from minigan import generate, options, reporter, train
from minigan.progress import Progress
from minigan.run import Run

FACES = 8
STEPS = 6  # of three epochs of two batches
SMALL = ["--preset", "tiny32", "--size", "16", "--batch-size", "4", "--z-dim", "8", "--device", "cpu"]
OPTIONS = [*SMALL, "--epochs", "3", "--sample-every", "2"]
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")  # all but the line feed


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """An empty folder to run commands in; few faces, and a row for every other step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "FACES", FACES)
    monkeypatch.setattr(train, "LOG_EVERY", 2)
    monkeypatch.setattr(Run, "plot", lambda run: None)
    return tmp_path


def said(capsys, *arguments) -> list[str]:
    """The lines on stdout; nothing is on stderr."""
    capsys.readouterr()
    train.train([*OPTIONS, *arguments])
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def test_a_file_gets_one_line_each_interval_and_no_control_characters(capsys):
    """Nobody redraws a file: each line is whole, and says once each interval how far it is."""
    lines = said(capsys, "--out", "run")
    assert not CONTROL.search("\n".join(lines))
    steps = [line for line in lines if line.startswith("step ")]
    number = r"\d\.\d\d"
    scores = rf"loss D {number} G {number}, D\(x\) {number} D\(G\(z\)\) {number}"
    form = rf"step (\d), epoch {number}, {scores}, [\d,]+ img/s, \d\d:\d\d left"
    assert [int(re.fullmatch(form, line)[1]) for line in steps] == [2, 4, 6]


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX's")
@pytest.mark.parametrize("elsewhere", [None, "stdout", "stderr"])
def test_a_bar_is_drawn_on_a_terminal_alone(place, elsewhere):
    """In place, above nothing that it would overwrite; but if either stream is a file, there is no bar in either."""
    import pty
    import termios

    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 100))
    program = f"from minigan import train; train.FACES = {FACES}; train.train({[*OPTIONS, '--out', 'run']})"
    streams = {"stdin": follower, "stdout": follower, "stderr": follower}
    with open("elsewhere", "w") as file:
        if elsewhere:
            streams[elsewhere] = file
        with subprocess.Popen([sys.executable, "-c", program], **streams) as process:
            os.close(follower)
            shown = b""
            with os.fdopen(leader, "rb", buffering=0) as terminal:
                while chunk := _read(terminal):
                    shown += chunk
    assert process.returncode == 0
    text = shown.decode().replace("\r\n", "\n")
    assert ("\repoch" in text) == (elsewhere is None)
    assert not CONTROL.search(Path("elsewhere").read_text())
    lines = text + Path("elsewhere").read_text()
    assert ("\nstep 2, epoch 1.00" in lines) == (elsewhere is not None)  # a bar or lines, not both
    assert "\ngenerate  python -m minigan.generate run --count 64 --out cats.png\n" in lines


@pytest.mark.skipif(sys.platform == "win32", reason="pipes that say so are POSIX's")
def test_a_reader_that_leaves_ends_the_program_quietly():
    """As behind `| head -1`: no traceback, and the status of a program that SIGPIPE has ended."""
    program = [sys.executable, "-m", "minigan.train", *OPTIONS, "--dry-run"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def _read(terminal: io.FileIO) -> bytes:
    try:
        return terminal.read(4096)
    except OSError:  # how Linux says that nobody writes any more
        return b""


def test_json_is_an_object_a_line(capsys):
    """Every line is an event; its rows are the log's, and its files are there."""
    events = [json.loads(line) for line in said(capsys, "--out", "run", "--json", "--save-every", "2")]
    names = [event.pop("event") for event in events]
    begin, interval = ["minigan", "pictures", "networks", "run", "sample"], ["row", "sample", "doctor"]
    assert names == [*begin, *interval, *interval, "checkpoint", *interval, "checkpoint", "end"]
    rows = [event for name, event in zip(names, events, strict=True) if name == "row"]
    assert rows == Run.open(Path("run")).rows()
    assert all(Path(event["path"]).is_file() for event in events if "path" in event)
    end = events[-1]
    assert (end["outcome"], end["step"], end["folder"]) == ("done", STEPS, "run")


def test_quiet_says_where_the_run_is(capsys):
    """And no more, so that a script can take it: RUN=$(python -m minigan.train --quiet)."""
    (folder,) = said(capsys, "--quiet")
    assert Run.open(Path(folder)).newest_checkpoint()


@pytest.mark.parametrize(("folder", "limit"), [("my cats; run", "--epochs=3"), ("-run", "--minutes=1e-4")])
def test_the_last_words_can_be_typed_as_they_stand(capsys, folder, limit):
    """The folder, whose name a shell would split, or a command take for an option, and what is in it; and both commands
    do what they say."""
    lines = said(capsys, f"--out={folder}", limit)
    last = dict(line.split(maxsplit=1) for line in lines[-8:])
    assert list(last) == ["done", "folder", "samples", "report", "weights", "log", "resume", "generate"]
    assert all(Path(last[name]).exists() for name in ("folder", "samples", "report", "weights", "log"))
    before = Run.open(Path(last["folder"])).checkpoints()[-1]
    for name, command in (("resume", train.train), ("generate", generate.generate)):
        words = shlex.split(last[name])
        assert words[:3] == ["python", "-m", f"minigan.{command.__name__}"]
        command(words[3:])
    assert Run.open(Path(last["folder"])).checkpoints()[-1] > before
    assert Path("cats.png").is_file()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (reporter.Lines, "decoding  1 of 1,002 pictures\ndecoding  2 of 1,002 pictures\n"),
        (
            reporter.Json,
            '{"event": "decoding", "count": 1, "total": 1002}\n{"event": "decoding", "count": 2, "total": 1002}\n',
        ),
        (reporter.Quiet, ""),
        (reporter.Reporter, ""),
    ],
)
def test_long_work_shows_that_it_goes_on(capsys, monkeypatch, kind, expected):
    """Every few seconds (here, at once) how many have come; and they do come, in order. Nothing on stderr."""
    monkeypatch.setattr(reporter, "SECONDS", 0)
    assert list(kind().counted(iter("ab"), total=1002, desc="decoding", unit="picture")) == ["a", "b"]
    assert capsys.readouterr() == (expected, "")


@pytest.mark.parametrize("kind", [reporter.Reporter, reporter.Quiet, reporter.Json, reporter.Lines, reporter.Terminal])
def test_listeners_hear_each_event_once(kind):
    """Whoever is spoken to, who listens is told the name and the facts."""
    heard = []
    spoken = kind()
    spoken.listeners.append(lambda event, facts: heard.append((event, facts)))
    spoken.say("row", "a text", step=2)
    spoken.say("end", folder="run")
    assert heard == [("row", {"step": 2}), ("end", {"folder": "run"})]


@pytest.mark.parametrize("equal", [True, False])
def test_quiet_says_what_was_proved(capsys, equal):
    """--verify-resume has no folder to name: its result is a sentence. What differs is an error's, not its own."""
    reporter.Quiet().say("verified", *["to the bit"] * equal, equal=equal)
    assert capsys.readouterr().out == "to the bit\n" * equal


def test_what_is_done_takes_no_longer():
    """A limit that is over before the first step is no division by zero."""
    over = Progress(options.new_settings(options.parse(["--minutes", "1e-9"])), 3, 0, 0.0, reporter.Quiet())
    assert over.done == 1
    assert over.seconds_left == 0
