"""What a command says, and to whom: to a person at a terminal, into a log file, to another program, or to nobody.

A command tells its reporter of each event once; how it is said is the reporter's affair:

Terminal    what a person wants to know, line by line, and below it a bar that is redrawn in place
Lines       the same lines, and one more at each sampling interval; no control characters: for a file or a pipe
Json        every event, one JSON object on a line (docs/run-folder.md lists them)
Quiet       where the results are, or what the result is, at the end

Errors are nobody's event: whoever is spoken to, they are one line on stderr (see minigan.command).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from tqdm import tqdm

if TYPE_CHECKING:
    from minigan.progress import Progress

__all__ = ["Event", "Json", "Lines", "Quiet", "Reporter", "Terminal", "usual"]

SECONDS = 10  # between two lines of `Lines.counted`


class Event(NamedTuple):
    """What `Reporter.say` takes, where it is to be told later."""

    name: str
    text: str
    facts: dict


class Reporter:
    """Is told what happens, and says nothing of it. listeners: are told the name and the facts of each event too."""

    def __init__(self):
        self.listeners: list[Callable[[str, dict], None]] = []

    def say(self, event: str, text: str = "", **facts) -> None:
        """An event: its name, what a person is told of it, if anything, and what a program is told of it."""
        for listener in self.listeners:
            listener(event, facts)

    def write(self, text: str) -> None:
        """Text for a person: a table, or several lines."""

    def counted(self, items: Iterable, total: int, desc: str, unit: str) -> Iterable:
        """The items, `total` of them, while it shows how many have come; called as tqdm is."""
        return items

    def begin(self, progress: Progress) -> None:
        """Before the first step."""

    def step(self, progress: Progress) -> None:
        """After each step."""

    def finish(self) -> None:
        """After the last step, however it ended."""


class Quiet(Reporter):
    """Says where the results are, or what the result is, at the end."""

    def say(self, event: str, text: str = "", **facts) -> None:
        super().say(event, text, **facts)
        if event == "end":
            print(facts["folder"])
        if event == "verified" and text:
            print(text)


class Json(Reporter):
    """An object for each event: {"event": its name, ... its facts}."""

    def say(self, event: str, text: str = "", **facts) -> None:
        super().say(event, text, **facts)
        print(json.dumps({"event": event, **facts}, default=str))  # str: of a Path

    def counted(self, items: Iterable, total: int, desc: str, unit: str) -> Iterator:
        return _each_while(items, lambda count: self.say(desc, count=count, total=total))


class Lines(Reporter):
    """A line for each event that has a text, and for each sampling interval."""

    def say(self, event: str, text: str = "", **facts) -> None:
        super().say(event, text, **facts)
        if text:
            self.write(f"{event:<9} {text}")

    def write(self, text: str) -> None:
        print(text)

    def counted(self, items: Iterable, total: int, desc: str, unit: str) -> Iterator:
        return _each_while(items, lambda count: self.write(f"{desc:<9} {count:,} of {total:,} {unit}s"))

    def step(self, progress: Progress) -> None:
        if progress.step % progress.settings.sample_every == 0:
            left = tqdm.format_interval(progress.seconds_left)
            self.write(f"step {progress.step:,}, epoch {progress.epoch:.2f}, {progress.in_words()}, {left} left")


class Terminal(Lines):
    """Lines above a bar."""

    def write(self, text: str) -> None:
        tqdm.write(text)  # the bar makes room

    def counted(self, items: Iterable, total: int, desc: str, unit: str) -> Iterable:
        return tqdm(items, total=total, desc=desc, unit=unit, leave=False, dynamic_ncols=True)

    def begin(self, progress: Progress) -> None:
        self.bar = tqdm(
            total=1.0,
            initial=progress.done,
            bar_format="{desc} |{bar}| {remaining} left{postfix}",
            dynamic_ncols=True,
        )

    def step(self, progress: Progress) -> None:
        self.bar.set_description_str(f"epoch {progress.epoch:.1f}", refresh=False)
        self.bar.set_postfix_str(progress.in_words(), refresh=False)
        self.bar.update(progress.done - self.bar.n)

    def finish(self) -> None:
        self.bar.close()


def usual() -> Reporter:
    """The one where nothing was asked for: a bar needs a terminal for what is said and for what is drawn below it."""
    return Terminal() if sys.stdout.isatty() and sys.stderr.isatty() else Lines()


def _each_while(items: Iterable, say: Callable[[int], None]) -> Iterator:
    """The items; every few seconds, `say` is told how many have come."""
    said = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        if time.monotonic() - said >= SECONDS:
            said = time.monotonic()
            say(count)
