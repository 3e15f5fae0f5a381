"""kill -9 at any moment, and nothing is lost:  python -m tests.soak_kill --kills 50 --seed 0

Real trainings of a small network are killed, half of them by the clock and half just before they touch a file of their
run's folder, where it would hurt; the next process resumes what is left. A run that has come to its end must equal,
to the bit, the one that nobody killed; then another one begins, until all kills are done.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from minigan import faces
from minigan.files import UNFINISHED
from minigan.run import Run
from minigan.verify_resume import compare, write_zip

OPTIONS = "--preset tiny32 --size 16 --batch-size 4 --z-dim 8 --device cpu --save-every 1 --sample-every 8 --keep 2"
PER_EPOCH = 3  # steps
SECONDS, OPERATIONS = 6.0, 60  # that a process is left, and on files: about what a whole run takes

TRAIN = [sys.executable, "-m", "minigan.train"]
TRAIN_UNTIL = [
    sys.executable,
    "-c",
    """
import os, signal, sys
from minigan.command import run_command
from minigan.train import train
folder, left = sys.argv[1], int(sys.argv[2])
def watch(event, arguments):
    global left
    if event in ("open", "os.mkdir", "os.remove", "os.rename") and folder in str(arguments[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
run_command(lambda: train(sys.argv[3:]))
""",
]


def ends(command: list[object], seconds: float | None = None) -> bool:
    """Run it. Whether it came to its end, and was not killed, by us after so many seconds or by itself."""
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            _, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()  # SIGKILL
            process.communicate()
            return False
    assert process.returncode in (0, -9), said.decode()
    return process.returncode == 0


def killed(folder: Path, arguments: list[object], chance: random.Random) -> str | None:
    """Train in `folder` until a moment by chance. Returns which it was, or None if the training was over before."""
    if chance.random() < 0.5:
        seconds = chance.uniform(0, SECONDS)
        return None if ends([*TRAIN, *arguments], seconds) else f"after {seconds:.2f} s"
    count = chance.randrange(OPERATIONS)
    return None if ends([*TRAIN_UNTIL, folder, count, *arguments]) else f"after {count} operations on files"


def soak(place: Path, kills: int, epochs: int, seed: int, say: Callable[[str], None]) -> None:
    """Kill so many processes of runs in `place`, and compare what becomes of the runs.

    Raises
    ------
    Different: two runs are not equal.
    AssertionError: a process ended with an error, or has left unfinished files in its run's folder.
    """
    chance, last = random.Random(seed), epochs * PER_EPOCH
    begin = [*OPTIONS.split(), "--epochs", epochs, "--data", place / "pictures.zip", "--out"]
    write_zip(faces.draw(4 * PER_EPOCH, 16, "RGB", seed=1), place / "pictures.zip")
    assert ends([*TRAIN, *begin, place / "straight"])
    straight = Run.open(place / "straight")
    say(f"seed {seed}: runs of {last} steps; nobody has killed the first one")

    left = kills
    for number in itertools.count(1):
        folder = place / f"run {number}"
        while reached(folder) < last:
            arguments = ["--resume", folder] if (folder / "config.json").exists() else [*begin, folder]
            if not left:
                assert ends([*TRAIN, *arguments])
            elif moment := killed(folder, arguments, chance):
                left -= 1
                say(f"kill {kills - left:<4} of run {number}, {moment}: saved up to step {reached(folder)}")
        run = Run.open(folder)
        with run.alone():  # removes what is unfinished
            run.keep_checkpoints(last, run.settings.keep, None)  # it may have been killed when only this was left to do
        assert not list(folder.rglob(UNFINISHED))
        compare(straight, run)
        say(f"run {number} has ended as the one that nobody killed, to the bit")
        if not left:
            return


def reached(folder: Path) -> int:
    """The step of the newest checkpoint."""
    return max((int(path.stem) for path in (folder / "checkpoints").glob("*.safetensors")), default=0)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak_kill", description="Kill trainings, resume, compare.")
    parser.add_argument("--kills", type=int, default=50, metavar="N", help="in all (default 50)")
    parser.add_argument("--epochs", type=int, default=20, metavar="N", help="of each run (default 20)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments (default 0)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="minigan-") as place:
        soak(Path(place), given.kills, given.epochs, given.seed, partial(print, flush=True))


if __name__ == "__main__":
    main()
