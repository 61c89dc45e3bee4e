"""What a rank's whole state is after each step, as digests: to compare runs step by step."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from training.loop.state import State


def digest_file(folder: Path, rank: int) -> Path:
    """Return where a rank writes its digests: a JSON line per step, also of steps done again."""
    return folder / f"digests-{rank}.jsonl"


def write_digest(
    folder: Path, rank: int, state: State, device: torch.device, numbers: dict[str, Any]
) -> None:
    """Add a line: ``numbers``, this process, and SHA-256 of each group of tensors and the RNG."""
    groups: dict[str, Any] = {}
    for group, name, part in state.parts():
        digest = groups.setdefault(group.partition("/")[0], hashlib.sha256())
        digest.update(f"{group}:{name}".encode())
        digest.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    random = hashlib.sha256(torch.get_rng_state().numpy().data)
    if device.type == "cuda":
        random.update(torch.cuda.get_rng_state(device).numpy().data)
    groups["random"] = random
    line = {**numbers, "digests": {name: digest.hexdigest() for name, digest in groups.items()}}
    with digest_file(folder, rank).open("ab") as file:
        file.write(json.dumps({"pid": os.getpid(), **line}).encode() + b"\n")
