"""The rank of ``kappa lab amp``: the same training in float32, bfloat16 and float16.

torch and numpy alone. On GPUs float32 is float32: TensorFloat-32 is a precision of its own here.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from training.lab.counting import KeptBytes
from training.lab.hardware import machine_facts
from training.lab.ranks import Team, main
from training.lab.workload import Workload
from training.parallel.place import Place

CPU_PRECISIONS = ("float32", "bfloat16", "float16")
GPU_PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
LEARNING_RATE = 0.02
SLOW = {("cpu", "float16"): 3}
"""How many steps to take where there are no quick kernels: one can take seconds."""


class Trainee:
    """A network that learns in one precision; the master weights are float32 in all of them."""

    def __init__(self, workload: Workload, batch: int, precision: str, device: torch.device):
        torch.manual_seed(7)
        self.workload, self.device, self.precision = workload, device, precision
        self.network = workload.build().to(device)
        if device.type == "cuda" and workload.kind == "resnet50":
            self.network = self.network.to(memory_format=torch.channels_last)
        self.dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(
            precision, torch.float32
        )
        self.batch = batch
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=LEARNING_RATE, momentum=0.9)
        # bfloat16 has float32's exponents: only float16's small gradients need a larger scale.
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        self.kept_bytes = 0

    def examples(self, seed: int) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return a batch; the same seed gives the same in every precision."""
        inputs, targets = self.workload.examples(self.batch, seed, self.device)
        if self.device.type == "cuda" and self.workload.kind == "resnet50":
            inputs = (inputs[0].contiguous(memory_format=torch.channels_last),)
        return inputs, targets

    def step(self, inputs: tuple[Tensor, ...], targets: Tensor, counts: bool = False) -> Tensor:
        """Take a step and return the loss, a scalar; ``counts`` the bytes kept for backward."""
        exact = self.precision == "float32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not exact
        if counts:
            kept = KeptBytes(self.network)
            with kept.watching():
                loss = self._loss(inputs, targets)
            self.kept_bytes = kept.nbytes
        else:
            loss = self._loss(inputs, targets)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        return loss.detach()

    def _loss(self, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=mixed):
            outputs = self.network(*inputs)
        return self.workload.loss(outputs, targets)


def measure(place: Place, settings: dict[str, Any]) -> dict[str, Any]:
    """Return per precision: losses, seconds per round, bytes; or why it does not run here.

    Settings: ``workload``, ``batch``, ``curve`` (steps of the loss curve), ``steps`` per timing,
    ``rounds``.
    """
    workload = Workload.from_json(settings["workload"])
    on_gpu = place.device.type == "cuda"
    found: dict[str, dict[str, Any]] = {}
    trainees: dict[str, Trainee] = {}
    for precision in GPU_PRECISIONS if on_gpu else CPU_PRECISIONS:
        try:
            found[precision] = _learn(workload, settings, precision, place.device)
            trainees[precision] = Trainee(workload, settings["batch"], precision, place.device)
        except (RuntimeError, NotImplementedError) as error:  # no such kernel on this device
            found[precision] = {"failed": str(error).splitlines()[0]}
    _time(trainees, settings, place, found)
    return {
        "precisions": found,
        "parameters": sum(p.numel() for p in trainees["float32"].network.parameters()),
        "on_gpu": on_gpu,
        "machine": machine_facts(on_gpu),
    }


def _learn(
    workload: Workload, settings: dict[str, Any], precision: str, device: torch.device
) -> dict[str, Any]:
    """Train for the length of the curve; return losses and memory."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    trainee = Trainee(workload, settings["batch"], precision, device)
    losses = [
        trainee.step(*trainee.examples(step), counts=step == 0) for step in range(settings["curve"])
    ]
    peak = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device) - before
    return {
        "losses": [float(loss) for loss in losses],
        "kept_bytes": trainee.kept_bytes,
        "peak_bytes": peak,
        "scale": float(trainee.scaler.get_scale()),
        "seconds": [],
    }


def _time(
    trainees: dict[str, Trainee],
    settings: dict[str, Any],
    place: Place,
    found: dict[str, dict[str, Any]],
) -> None:
    """Time the precisions in turns, so that what else runs comes to all of them."""
    team = Team.of(1, place)
    batch = next(iter(trainees.values())).examples(0)
    for number in range(settings["rounds"] + 1):
        for precision, trainee in trainees.items():
            steps = settings["steps"]
            if (place.device.type, precision) in SLOW:
                if number > 1:
                    continue
                steps = 1
            took_s = team.seconds(partial(trainee.step, *batch), steps)
            if number:  # the first is warming up
                found[precision]["seconds"].append(took_s)


if __name__ == "__main__":
    main(measure)
