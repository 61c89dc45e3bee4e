"""The watchdog ends a process that hangs, and leaves one that beats alone."""

import subprocess
import sys

from streams.watchdog import EXIT_STUCK

_START = "import time; from streams.watchdog import Watchdog; dog = Watchdog(0.4);"


def run(rest: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _START + rest], capture_output=True, text=True, timeout=30
    )


def test_a_hung_process_exits_and_shows_where_it_hangs() -> None:
    ended = run("time.sleep(20)")
    assert ended.returncode == EXIT_STUCK
    assert "no progress" in ended.stderr
    assert "<string>" in ended.stderr  # the traceback of the main thread


def test_a_beating_or_stopped_one_goes_on() -> None:
    beating = run("[(time.sleep(0.1), dog.beat()) for _ in range(10)]")
    stopped = run("dog.stop(); time.sleep(1)")
    assert (beating.returncode, stopped.returncode) == (0, 0)
