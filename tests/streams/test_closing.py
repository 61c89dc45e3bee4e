"""Closing takes so long and no longer."""

import threading

import pytest
from structlog.testing import capture_logs

from streams.closing import close_client


class Closing:
    """A client that closes when it may."""

    def __init__(self) -> None:
        self.may, self.closed = threading.Event(), threading.Event()

    def close(self) -> None:
        assert self.may.wait(30)
        self.closed.set()


def test_a_client_is_closed() -> None:
    client = Closing()
    client.may.set()
    with capture_logs() as logged:
        assert close_client(client, "consumer of a", 30)
    assert client.closed.is_set()
    assert not logged


def test_one_that_does_not_close_in_time_is_left_behind_and_named() -> None:
    client = Closing()
    with capture_logs() as logged:
        assert not close_client(client, "consumer of a", 0.05)
    assert not client.closed.is_set()
    assert [entry["client"] for entry in logged] == ["consumer of a"]
    client.may.set()
    assert client.closed.wait(30)


def test_it_is_freed_in_the_thread_that_closes_it() -> None:
    freed = list[str]()

    class Freed(Closing):
        def __del__(self) -> None:
            freed.append(threading.current_thread().name)

    client = Freed()
    may = client.may
    assert not close_client(client, "consumer of a", 0.05)
    del client
    left = [thread for thread in threading.enumerate() if thread.name == "close consumer of a"]
    assert freed == []
    may.set()
    for thread in left:
        thread.join(30)
    assert freed == ["close consumer of a"]


def test_what_closing_raises_is_raised() -> None:
    class Fenced:
        def close(self) -> None:
            raise RuntimeError("fenced")

    with pytest.raises(RuntimeError, match="fenced"):
        close_client(Fenced(), "producer of a", 30)
