"""A process that must not outlive the one that started it."""

import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
POLL_S = 1.0
GRACE_S = 20.0


def end_with_parent(parent_pid: int, grace_s: float = GRACE_S) -> None:
    """Have this process asked to stop (SIGTERM) when process ``parent_pid`` ends, however it ends.

    On Linux the kernel does it at once; strictly, when the parent's *thread* that started us ends,
    so that thread must live as long. Elsewhere a thread of ours looks once a second. What has not
    stopped ``grace_s`` seconds later is killed, with what it started itself.
    """
    asked = sys.platform == "linux" and _ask_kernel()
    if asked and os.getppid() != parent_pid:  # it had ended before we asked
        os.kill(os.getpid(), signal.SIGTERM)
    watcher = threading.Thread(
        target=_watch, args=(parent_pid, asked, grace_s), name="lifeline", daemon=True
    )
    watcher.start()


def _ask_kernel() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) == 0)


def _watch(parent_pid: int, asked: bool, grace_s: float) -> None:
    while os.getppid() == parent_pid:
        time.sleep(POLL_S)
    if not asked:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
