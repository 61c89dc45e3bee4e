"""The supervisor over real processes: small scripts in the place of the workers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from infra.supervisor import (
    EXIT_BROKER_AWAY,
    EXIT_USER_MUST_ACT,
    LOG_LIMIT_BYTES,
    RestartPolicy,
    Supervisor,
    read_tail,
)
from streams.errors import WorkerError
from streams.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
QUICK = RestartPolicy(first_wait_s=0.01, longest_wait_s=0.05, healthy_after_s=60.0, quick_deaths=3)

STEADY = """
import signal, sys, time
def stop(*_):
    print("stopping", time.monotonic(), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
time.sleep(600)
"""
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", child.pid, flush=True)
time.sleep(600)
"""


def scripts(**script: str) -> Callable[[str], list[str]]:
    """Role → a command line that runs the script of that name."""
    return lambda role: [sys.executable, "-c", script[role]]


def supervisor(
    home: Path, policy: RestartPolicy = QUICK, stop_within_s: float = 20.0, **script: str
) -> Supervisor:
    settings = Settings(home=home)
    return Supervisor(
        "unused", "p", settings, "127.0.0.1:9", list(script), policy,
        stop_within_s=stop_within_s, command=scripts(**script),
    )  # fmt: skip


def wait_until(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "the state was not reached in time"
        time.sleep(0.01)


def log_of(running: Supervisor, role: str) -> str:
    path = running.logs / f"{role}.log"
    return path.read_text() if path.exists() else ""


def test_all_run_with_their_settings_and_stop(tmp_path: Path) -> None:
    tells = "import os; print(os.environ['KAPPA_HOME'], os.environ['KAFKA_BOOTSTRAP_SERVERS'])\n"
    with supervisor(tmp_path, first=tells + STEADY, second=STEADY) as running:
        wait_until(lambda: all("ready" in log_of(running, role) for role in ("first", "second")))
        status = running.status()
        assert [(s.role, s.state, s.restarts) for s in status] == [
            ("first", "running", 0),
            ("second", "running", 0),
        ]
        pids = [s.pid for s in status if s.pid is not None]
        assert len(pids) == 2
        running.check()
    assert f"{tmp_path} 127.0.0.1:9" in log_of(running, "first")
    assert [(s.state, s.pid) for s in running.status()] == [("stopped", None)] * 2
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert all("stopping" in log_of(running, role) for role in ("first", "second"))


def test_all_are_asked_to_stop_at_once_so_each_has_the_whole_time(tmp_path: Path) -> None:
    ends = "time.sleep(2); print('in order', flush=True); sys.exit(0)"
    slow = STEADY.replace("sys.exit(0)", ends)
    roles = ("a", "b", "c", "d")
    with supervisor(tmp_path, QUICK, 6.0, a=slow, b=slow, c=slow, d=slow) as running:
        wait_until(lambda: all("ready" in log_of(running, role) for role in roles))
    assert all("in order" in log_of(running, role) for role in roles)


def test_each_process_has_an_environment_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAPPA_METRICS_PORT", "9000")
    tells = "import os; print('port', os.environ.get('KAPPA_METRICS_PORT'))\n" + STEADY
    running = Supervisor(
        "unused", "p", Settings(home=tmp_path), "127.0.0.1:9", ["one", "two"], QUICK,
        stop_within_s=2.0, command=scripts(one=tells, two=tells),
        environment=lambda role: {"KAPPA_METRICS_PORT": "9001"} if role == "one" else {},
    )  # fmt: skip
    with running:
        wait_until(lambda: all("ready" in log_of(running, role) for role in ("one", "two")))
    assert "port 9001" in log_of(running, "one")
    assert "port None" in log_of(running, "two")  # all can't have ours


def test_a_process_that_dies_is_started_again(tmp_path: Path) -> None:
    with supervisor(tmp_path, policy=RestartPolicy(first_wait_s=0.01), only=STEADY) as running:
        wait_until(lambda: "ready" in log_of(running, "only"))
        pid = running.status()[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: log_of(running, "only").count("ready") == 2)
        (status,) = running.status()
        assert (status.state, status.restarts) == ("running", 1)
        assert status.pid != pid
        running.check()


def test_one_that_keeps_dying_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    with supervisor(tmp_path, bad="raise SystemExit('no such model')", good=STEADY) as running:
        wait_until(lambda: running.status()[0].state == "failed")
        with pytest.raises(WorkerError, match=r"(?s)the bad process .*status 1.* 3 times.*no such"):
            running.check()
        assert running.status()[0].restarts == 2
        assert running.status()[1].state == "running"
    assert log_of(running, "bad").count("no such model") == 3


def test_one_that_no_restart_can_help_is_not_restarted(tmp_path: Path) -> None:
    with supervisor(tmp_path, wrong=f"raise SystemExit({EXIT_USER_MUST_ACT})") as running:
        wait_until(lambda: running.status()[0].state == "failed")
        assert running.status()[0].restarts == 0
        with pytest.raises(WorkerError, match="no restart will help"):
            running.check()


def test_one_that_finds_no_broker_is_tried_until_there_is_one(tmp_path: Path) -> None:
    tries, away = tmp_path / "tries", tmp_path / "away"
    away.touch()
    script = (
        f"import pathlib; open({str(tries)!r}, 'a').write('x')\n"
        f"if pathlib.Path({str(away)!r}).exists(): raise SystemExit({EXIT_BROKER_AWAY})\n"
    )
    policy = RestartPolicy(away_wait_s=0.01, healthy_after_s=60.0, quick_deaths=2)
    with supervisor(tmp_path, policy, only=script + STEADY) as running:
        wait_until(lambda: tries.exists() and len(tries.read_text()) >= 5)
        away.unlink()
        wait_until(lambda: "ready" in log_of(running, "only"))
        running.check()
        assert running.status()[0].restarts == 0


def test_a_run_that_was_long_enough_begins_the_count_again(tmp_path: Path) -> None:
    policy = RestartPolicy(first_wait_s=0.01, healthy_after_s=0.0, quick_deaths=2)
    with supervisor(tmp_path, policy, frail="raise SystemExit(1)") as running:
        wait_until(lambda: running.status()[0].restarts >= 4)
        running.check()


def test_waits_between_restarts_double_up_to_a_bound() -> None:
    policy = RestartPolicy(first_wait_s=0.5, longest_wait_s=3.0)
    assert [policy.wait_s(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_what_does_not_stop_is_killed_with_its_children(tmp_path: Path) -> None:
    with supervisor(tmp_path, QUICK, 2.0, stubborn=STUBBORN) as running:
        wait_until(lambda: "ready" in log_of(running, "stubborn"))
        child = int(log_of(running, "stubborn").split()[1])
    wait_until(lambda: not _lives(child))
    assert running.status()[0].state == "stopped"


def test_a_large_log_is_set_aside_at_the_next_start(tmp_path: Path) -> None:
    starting = supervisor(tmp_path, only=STEADY)
    starting.logs.mkdir(parents=True)
    with (starting.logs / "only.log").open("wb") as log:
        log.truncate(LOG_LIMIT_BYTES + 1)
    with starting:
        wait_until(lambda: "ready" in log_of(starting, "only"))
    assert (starting.logs / "only.log.1").stat().st_size == LOG_LIMIT_BYTES + 1


SUPERVISOR = """
import sys, time
from pathlib import Path
from infra.supervisor import Supervisor
from streams.settings import Settings
worker = '''
import os, signal, subprocess, sys, time
from infra.lifeline import end_with_parent
if sys.argv[2] == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
end_with_parent(int(sys.argv[1]), grace_s=0.5)
print("ready", flush=True)
time.sleep(600)
'''
import os
command = lambda role: [sys.executable, "-c", worker, str(os.getpid()), role]
home = Settings(home=Path(sys.argv[1]))
with Supervisor("unused", "p", home, "", ["polite", "deaf"], command=command) as running:
    while any("ready" not in (running.logs / f"{r}.log").read_text() for r in ("polite", "deaf")):
        time.sleep(0.01)
    print("pids", *[s.pid for s in running.status()], flush=True)
    time.sleep(600)
"""


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            told = next((line for line in running.stdout if line.startswith("pids ")), "")
        finally:
            running.kill()
    pids = [int(pid) for pid in told.split()[1:]]
    assert len(pids) == 2
    for pid in pids:
        wait_until(lambda pid=pid: not _lives(pid))  # type: ignore[misc]


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_tail_of_a_log_begins_at_a_line(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("first line\nsecond line\n")
    assert read_tail(log) == "first line\nsecond line\n"
    assert read_tail(log, size=14) == "second line\n"
    assert read_tail(tmp_path / "none.log") == ""
