"""The process between the embedded broker and those who use it; run as a script.

It starts the broker and stops it when its last user is gone. Each user holds a shared lock on one
file; the kernel releases the lock however the user ends, so nobody can leave a broker behind, and
no user takes the broker from another. Uses the standard library alone, to be small and quick.

    python -I broker_guard.py FOLDER COMMAND...
"""

import ctypes
import fcntl
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

USERS_LOCK = "users.lock"
ENDPOINT = "endpoint.json"
PID = "broker.pid"
CONSOLE = "console.log"
POLL_S = 0.1
STOP_WITHIN_S = 30.0
PR_SET_PDEATHSIG = 1


def main(folder: Path, command: list[str]) -> int:
    """Run ``command`` until the last user is gone; return its status where it ended by itself."""
    asked_to_stop = False

    def stop(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with (folder / USERS_LOCK).open("w") as users, (folder / CONSOLE).open("wb") as console:
        broker = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        (folder / PID).write_text(str(broker.pid))
        while broker.poll() is None:
            if asked_to_stop or _locked(users):
                # New users wait for the lock, which is ours, and find no endpoint after it.
                (folder / ENDPOINT).unlink(missing_ok=True)
                _stop(broker)
                return 0
            time.sleep(POLL_S)
        (folder / ENDPOINT).unlink(missing_ok=True)
        return broker.returncode or 1


def _locked(users: object) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # type: ignore[arg-type]
    except OSError:
        return False
    return True


def _stop(broker: "subprocess.Popen[bytes]") -> None:
    broker.terminate()
    try:
        broker.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        broker.kill()
        broker.wait()


def _die_with_parent() -> None:
    # This process has one thread, so running Python between fork and exec is safe.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
