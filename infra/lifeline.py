"""A process that must not outlive the one that started it."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
POLL_S = 1.0


def die_with_parent(parent_pid: int, with_signal: signal.Signals = signal.SIGTERM) -> None:
    """Have ``with_signal`` sent to this process when the process ``parent_pid`` ends.

    On Linux the kernel sends it, however the parent ends, even killed; strictly, when the parent's
    *thread* that started us ends, so that thread must live as long. Elsewhere a thread of ours
    looks once a second whether we have another parent.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, int(with_signal), 0, 0, 0) == 0:
            if os.getppid() != parent_pid:  # it had ended before we asked
                os.kill(os.getpid(), with_signal)
            return
    threading.Thread(target=_watch, args=(parent_pid, with_signal), daemon=True).start()


def _watch(parent_pid: int, with_signal: signal.Signals) -> None:
    while os.getppid() == parent_pid:
        time.sleep(POLL_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(os.getpid(), with_signal)
