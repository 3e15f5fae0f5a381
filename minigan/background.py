"""What the host does of a step while the device is at the next ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from minigan.reporter import Event

__all__ = ["Background"]


class Background:
    """One thing at a time, in a thread of its own. A context manager: at its end nothing is under way.

    say: is told, by the thread that started it, which events a thing has returned.
    """

    def __init__(self, say: Callable):
        self.say = say
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="background")
        self.under_way: Future[Iterable[Event]] | None = None

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_) -> None:
        self.thread.shutdown()

    def start(self, act: Callable[..., Iterable[Event]], *arguments) -> None:
        """`act(*arguments)`, after what was started before."""
        self.finish()
        self.under_way = self.thread.submit(act, *arguments)

    def tell(self) -> None:
        """The events of what was started, if it is done. Raises what it raised."""
        if self.under_way is not None and self.under_way.done():
            self.finish()

    def finish(self) -> None:
        """Wait until it is done, and tell."""
        if self.under_way is None:
            return
        done, self.under_way = self.under_way, None
        for event in done.result():
            self.say(event.name, event.text, **event.facts)
