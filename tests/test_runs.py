"""A run's folder is what its page says, and `minigan.runs` says what is in many of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import filelock
import pytest
from commands import refused

from minigan import runs, train
from minigan.options import new_settings, parse
from minigan.run import Run

PAGE = (Path(__file__).parent.parent / "docs" / "run-folder.md").read_text()
SMALL = ["--preset", "tiny32", "--size", "16", "--batch-size", "4", "--z-dim", "8", "--device", "cpu"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Runs that ended in different ways, and folders that hold none."""
    here = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "FACES", 8)
        patch.setattr(train, "LOG_EVERY", 2)
        patch.setattr(Run, "plot", lambda run: None)
        for name, options in {"long": ["--epochs", "3", "--sample-every", "2"], "short": ["--minutes", "1e-4"]}.items():
            train.train([*SMALL, "--quiet", "--out", str(here / name), *options])
        patch.setattr(train.Game, "step", interrupted(train.Game.step))
        train.train([*SMALL, "--quiet", "--out", str(here / "interrupted")])
    (here / "notes").mkdir()
    (here / "broken").mkdir()
    (here / "broken" / "config.json").write_text("{")
    (here / "file").write_text("not a folder")
    return here


def interrupted(step):
    def first(game, real):
        signal.raise_signal(signal.SIGINT)
        return step(game, real)

    return first


def fields(section: str) -> list[str]:
    """The names in the first column of the table below a heading of the page."""
    text = PAGE.partition(f"## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)


# ---- the page ----------------------------------------------------------------


def test_rows_have_the_fields_that_are_documented(folder):
    """All of them, in this order, and no other: of each row of the log, of the doctor, and of config.json."""
    run = Run.open(folder / "long")
    assert run.rows()
    assert all(list(row) == fields("`log.jsonl`") for row in run.rows())
    assert all(list(row) == fields("`doctor.jsonl`") for row in run.rows("doctor.jsonl"))
    assert set(json.loads((run.folder / "config.json").read_text())) == set(fields("`config.json`"))


def test_every_file_is_documented(folder):
    """A run leaves nothing that the page does not name."""
    named = set(re.findall(r"`([\w./]+)`", PAGE.partition("## ")[0]))
    run = folder / "long"
    for path in run.rglob("*"):
        name = path.relative_to(run).as_posix()
        stepless = re.sub(r"\d{6,}", "STEP", name)
        assert path.is_dir() or stepless in named, name


def test_events_are_documented(tmp_path, capsys, monkeypatch):
    """Each event of --json, with just the fields that the page names for it."""
    monkeypatch.setattr(train, "FACES", 8)
    train.train([*SMALL, "--json", "--epochs", "1", "--out", str(tmp_path / "run")])
    table = re.findall(r"^\| `(\w+)` \| [^|]+ \| (.*) \|$", PAGE.partition("--json`")[2], re.MULTILINE)
    named = {event: set(re.findall(r"`(\w+)`", text)) for event, text in table}
    named |= {event: set(fields(f"`{file}.jsonl`")) for event, file in (("row", "log"), ("doctor", "doctor"))}
    for line in capsys.readouterr().out.splitlines():
        event = json.loads(line)
        assert set(event) - {"event"} <= named[event["event"]], event
        assert named[event["event"]] - set(event) <= {"report"}, event


# ---- the list ----------------------------------------------------------------


def told(capsys, *arguments) -> list[str]:
    capsys.readouterr()
    runs.runs([str(argument) for argument in arguments])
    return capsys.readouterr().out.splitlines()


def test_runs_are_listed_and_other_folders_named(folder, capsys, monkeypatch):
    """State, step and numbers of each run, the last written first; a broken or foreign folder is but a line."""
    monkeypatch.setenv("COLUMNS", "200")  # room for every column
    titles, *lines = told(capsys, folder)
    columns = ["run", "state", "preset", "step", "epoch", "img/s", "loss D", "loss G", "best", "written"]
    assert re.split("  +", titles) == columns
    assert [line.split()[:5] for line in lines[:3]] == [
        ["interrupted", "stopped", "tiny32", "1", "0.5/100"],
        ["short", "done", "tiny32", "1", "0.5"],
        ["long", "done", "tiny32", "6", "3.0/3"],
    ]
    last = Run.open(folder / "long").rows()[-1]
    assert f" {last['d_loss']:.2f}  " in lines[2]
    assert lines[3].startswith(f"not listed: {folder / 'broken' / 'config.json'}: broken (")
    assert lines[4].startswith(f"not listed: {folder / 'notes'}: no run's folder (")
    assert len(lines) == 5
    assert told(capsys, folder / "long")[1].split()[:2] == ["long", "done"]  # a run's own folder


def test_json_says_the_same(folder, capsys):
    """An object a run, with the log's own numbers."""
    found = {run["name"]: run for run in map(json.loads, told(capsys, folder, "--json"))}
    last = Run.open(folder / "long").rows()[-1]
    for name in ("step", "epoch", "images_per_second", "d_loss", "g_loss"):
        assert found["long"][name] == last[name]
    assert {name: run["state"] for name, run in found.items()} == {
        "long": "done", "short": "done", "interrupted": "stopped", "broken": "broken", "notes": "broken",
    }  # fmt: skip


def test_the_best_is_where_the_distance_was_least(folder, tmp_path, capsys):
    """Of all rows that the doctor wrote, whenever that was; a distance that was no number is in none."""
    run = Path(shutil.copytree(folder / "short", tmp_path / "short"))
    visits = [(1, {"distance": 0.5}), (2, {"distance": 0.25}), (3, {"distance": 0.75}), (4, {})]
    rows = [json.dumps({"step": step, "measures": measures, "notes": []}) + "\n" for step, measures in visits]
    (run / "doctor.jsonl").write_text("".join(rows))
    (found,) = map(json.loads, told(capsys, run, "--json"))
    assert (found["best"], found["best_step"]) == (0.25, 2)
    assert "  0.250 at 2  " in told(capsys, run)[1]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_the_table_fits_the_terminal(folder, capsys, monkeypatch, width):
    """No line of it is wider; where there is room, every column is there, and the name always is."""
    monkeypatch.setenv("COLUMNS", str(width))
    lines = told(capsys, folder)[:4]
    assert max(map(len, lines)) <= width
    assert all(line.startswith(name) for line, name in zip(lines[1:], ("interrupted", "short", "long"), strict=True))
    assert ("written" in lines[0]) == (width >= 60)
    assert ("preset" in lines[0]) == (width >= 100)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
def test_who_trains_and_who_was_killed(tmp_path, capsys):
    """A run in training is listed with its process; that process may be killed, and then the run says so."""
    options = [*SMALL, "--minutes", "1", "--sample-every", "1", "--quiet", "--out", str(tmp_path / "run")]
    with subprocess.Popen([sys.executable, "-m", "minigan.train", *options]) as process:
        while not (tmp_path / "run" / "samples" / "000001.png").exists():
            assert process.poll() is None
            time.sleep(0.02)
        assert told(capsys, tmp_path)[1].split()[:3] == ["run", "training", str(process.pid)]
        os.kill(process.pid, signal.SIGKILL)
    assert told(capsys, tmp_path)[1].split()[:2] == ["run", "killed"]


def test_a_run_that_only_others_may_write(tmp_path, capsys, monkeypatch):
    """Whether its process lives cannot be found out: it is named, and nothing is written. No lock: none trains."""
    run = Run.create(tmp_path / "run", new_settings(parse(SMALL)), {"started": "2026-11-28", "outcome": None}, [])
    (run.folder / "checkpoints" / "process").write_text("99999999")

    def refuse(*_, **__):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(filelock.FileLock, "acquire", refuse)
        assert told(capsys, tmp_path)[1].split()[:3] == ["run", "training", "99999999"]
    (run.folder / "checkpoints" / "lock").unlink()
    assert told(capsys, tmp_path)[1].split()[:2] == ["run", "killed"]
    assert not (run.folder / "checkpoints" / "lock").exists()


def test_no_runs(tmp_path, capsys):
    """A folder that is not there is an error; one that is empty is not."""
    assert told(capsys, tmp_path) == [f"no runs in {tmp_path}: python -m minigan.train begins one"]
    assert f"{tmp_path / 'runs'}: cannot be listed (" in refused(capsys, runs.runs, tmp_path / "runs")
