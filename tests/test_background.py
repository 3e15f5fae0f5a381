"""The background: one thing at a time beside the steps, of which nothing is lost, neither an event nor an error."""

from __future__ import annotations

import threading

import pytest

from minigan.background import Background
from minigan.reporter import Event


def test_what_is_done_beside_is_told_by_who_started_it():
    """Its events are said once, by the thread that asks, and not before it is done."""
    said, go = [], threading.Event()

    def act(number):
        go.wait(timeout=60)
        return [Event("sample", "text", {"step": number, "by": threading.current_thread()})]

    def say(name, text, **facts):
        said.append((name, text, facts["step"], facts["by"] is not threading.current_thread()))

    with Background(say) as background:
        background.tell()
        background.start(act, 1)
        background.tell()
        assert not said
        go.set()
        background.start(act, 2)  # waits for the first, and tells
        assert said == [("sample", "text", 1, True)]
        background.finish()
        background.finish()
    assert said == [("sample", "text", 1, True), ("sample", "text", 2, True)]


@pytest.mark.parametrize("ask", [Background.finish, lambda background: background.start(list)])
def test_an_error_beside_is_an_error(ask):
    """What it raised is raised where it is asked for, once; and the next thing can be started."""

    def act():
        raise OSError("no room")

    with Background(print) as background:
        background.start(act)
        with pytest.raises(OSError, match="no room"):
            ask(background)
        background.finish()


def test_at_its_end_nothing_is_under_way():
    """It waits for what was begun, however the steps ended: no file is half written, and no thread is left."""
    done = []
    go = threading.Event()
    with pytest.raises(KeyboardInterrupt), Background(print) as background:  # noqa: PT012
        background.start(lambda: done.append(go.wait(timeout=60)) or [])
        threading.Timer(0.05, go.set).start()
        raise KeyboardInterrupt
    assert done == [True]
