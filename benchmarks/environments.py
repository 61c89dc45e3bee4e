"""Peers in Python: each in an environment of its own, made when it is first needed.

The project does not depend on them. What can't be installed or run here is skipped, with the
reason.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.outcome import PeerSkippedError, Rates

ROOT = Path(__file__).resolve().parents[1]
INSTALL_TIMEOUT_S = 600.0
RUN_TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Peer:
    """A peer: the module ``benchmarks.peers.<name>`` and what it needs.

    Without ``requirements`` it runs in the project's own environment.
    """

    name: str
    requirements: tuple[str, ...] = ()


FAUST = Peer("faust")
QUIX = Peer("quix", ("quixstreams==3.28.1", "confluent-kafka==2.12.2", "orjson==3.13.0"))
QUIX_INFERENCE = Peer("quix_inference", (*QUIX.requirements, "onnxruntime==1.32.0", "numpy==2.4.6"))
BYTEWAX = Peer("bytewax", ("bytewax[kafka]==0.21.1", "confluent-kafka==2.16.1", "msgspec==0.22.0"))


@dataclass(frozen=True)
class Measured:
    """What a peer told of itself."""

    rates: Rates
    versions: dict[str, str]


def interpreter(peer: Peer, cache: Path, progress: Callable[[str], None]) -> str:
    """Return the Python of a peer's environment under ``cache``, made where need be.

    Raises:
        PeerSkippedError: it can't be made.
    """
    if not peer.requirements:
        return sys.executable
    folder = cache / peer.name
    python, installed = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join((f"python {sys.version_info.major}.{sys.version_info.minor}",
                        *peer.requirements))  # fmt: skip
    if python.exists() and installed.is_file() and installed.read_text() == wanted:
        return str(python)
    progress(f"making an environment for {', '.join(peer.requirements)}, once, in {folder}")
    cache.mkdir(parents=True, exist_ok=True)
    _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
    _uv("pip", "install", "--quiet", "--python", str(python), *peer.requirements)
    installed.write_text(wanted)
    return str(python)


def measure(
    peer: Peer, python: str, bootstrap: str, topic: str, events: int, warm_up: int, folder: Path
) -> Measured:
    """Run a peer over the first ``events`` it reads of ``topic``; return what its meter says.

    Raises:
        PeerSkippedError: it does not run here, or not in time.
    """
    state = folder / peer.name
    state.mkdir(parents=True, exist_ok=True)
    command = [
        python, "-m", f"benchmarks.peers.{peer.name}",
        bootstrap, topic, str(events), str(warm_up), str(state),
    ]  # fmt: skip
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONHOME")}
    try:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        raise PeerSkippedError(f"did not end within {RUN_TIMEOUT_S:.0f} s") from None
    told = [line for line in ended.stdout.splitlines() if line.startswith('{"events"')]
    if not told:
        raise PeerSkippedError(f"ended with {ended.returncode}: {_last(ended.stderr)}")
    figures = json.loads(told[-1])
    events_counted = figures["events"]
    return Measured(
        Rates(events_counted / figures["cpu_s"], events_counted / figures["wall_s"]),
        figures["versions"],
    )


def _uv(*arguments: str) -> None:
    try:
        ended = subprocess.run(
            ["uv", *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=INSTALL_TIMEOUT_S,
        )
    except FileNotFoundError:
        raise PeerSkippedError("uv is not on PATH, which makes its environment") from None
    except subprocess.TimeoutExpired:
        raise PeerSkippedError(f"uv did not end within {INSTALL_TIMEOUT_S:.0f} s") from None
    if ended.returncode:
        raise PeerSkippedError(f"uv {arguments[0]}: {_last(ended.stderr)}")


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return (lines or ["nothing was printed"])[-1][:300]
