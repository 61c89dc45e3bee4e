"""A call is waited for so long and no longer."""

import threading

import pytest

from streams.time_limit import TimeLimit


def test_calls_run_in_order_and_raise_what_they_raise() -> None:
    limit, said = TimeLimit("calls"), list[int]()
    limit.call(10, lambda: said.append(1))
    with pytest.raises(ZeroDivisionError):
        limit.call(10, lambda: 1 // 0)
    limit.call(10, lambda: said.append(2))
    limit.close()
    assert said == [1, 2]


def test_a_time_out_that_the_call_itself_raises_is_not_ours() -> None:
    limit, threads = TimeLimit("calls"), set[int]()

    def fails() -> None:
        threads.add(threading.get_ident())
        raise TimeoutError("the call's own")

    for _ in range(2):
        with pytest.raises(TimeoutError, match="the call's own"):
            limit.call(10, fails)
    limit.close()
    assert len(threads) == 1


def test_a_call_that_hangs_is_left_behind_and_the_next_one_runs() -> None:
    limit, released, said = TimeLimit("calls"), threading.Event(), list[str]()
    with pytest.raises(TimeoutError):
        limit.call(0.05, released.wait)
    limit.call(10, lambda: said.append("next"))
    limit.close()
    released.set()
    assert said == ["next"]


def test_its_threads_end() -> None:
    limit, released = TimeLimit("ends here"), threading.Event()
    with pytest.raises(TimeoutError):
        limit.call(0.05, released.wait)
    limit.call(10, lambda: None)
    mine = [thread for thread in threading.enumerate() if thread.name == "ends here"]
    assert len(mine) == 2
    limit.close()
    released.set()
    for thread in mine:
        thread.join(10)
        assert not thread.is_alive()
