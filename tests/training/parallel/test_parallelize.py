"""Every parallelism is one process with the whole batch: 50 steps of AdamW, clipped, one start.

One launch of 2 Gloo ranks and one of 4 run all the cases; see the tolerances at the end.
"""

from functools import cache, partial
from pathlib import Path

import pytest
import torch

from tests.training.parallel.cases import CLIP, Case, Course, load, run, save
from tests.training.parallel.worlds import world
from training.networks.declared import Experts, Network, Tabular, Transformer
from training.parallel.declared import Parallel

LAYERS = Tabular((16, 8))
BLOCKS = Transformer(last=4, width=16, layers=3, heads=4)
TABULAR_EXPERTS = Tabular((16, 8), experts=Experts(4, top=2, hidden=8, balance=0.1))
EXPERTS = Transformer(
    last=4, width=16, layers=2, heads=4, experts=Experts(4, top=2, hidden=8, balance=0.1)
)
UNBALANCED = Transformer(
    last=4, width=16, layers=2, heads=4, experts=Experts(4, top=2, hidden=8, balance=0.0)
)

TWO = {
    "ddp": Case(LAYERS, ranks=2),
    "ddp, recomputed": Case(LAYERS, ranks=2, recompute=True),
    "ddp, pieces": Case(LAYERS, ranks=2, pieces=3),
    "ddp, empty pieces": Case(LAYERS, ranks=2, pieces=14, steps=5),
    "ddp of blocks": Case(BLOCKS, ranks=2, pieces=2),
    "ddp of experts": Case(TABULAR_EXPERTS, ranks=2),
    "fsdp": Case(LAYERS, Parallel(shard=True), ranks=2),
    "fsdp of blocks": Case(BLOCKS, Parallel(shard=True), ranks=2, pieces=2, recompute=True),
    "tensor": Case(LAYERS, Parallel(tensor=2), ranks=2),
    "tensor of blocks": Case(BLOCKS, Parallel(tensor=2), ranks=2, pieces=2, recompute=True),
    "gpipe": Case(LAYERS, Parallel(pipeline=2, schedule="gpipe"), ranks=2, pieces=2),
    "gpipe of blocks": Case(BLOCKS, Parallel(pipeline=2, schedule="gpipe"), ranks=2),
    "1f1b of blocks": Case(BLOCKS, Parallel(pipeline=2, microbatches=3), ranks=2, recompute=True),
    "1f1b, padded": Case(BLOCKS, Parallel(pipeline=2, microbatches=7), ranks=2, pieces=2, steps=5),
    "1f1b of experts": Case(UNBALANCED, Parallel(pipeline=2, microbatches=2), ranks=2),
    "experts": Case(TABULAR_EXPERTS, Parallel(expert=2), ranks=2),
    "experts of blocks": Case(EXPERTS, Parallel(expert=2), ranks=2, recompute=True),
}
FOUR = {
    "data x tensor": Case(BLOCKS, Parallel(tensor=2), ranks=4, pieces=2),
    "data x pipeline": Case(BLOCKS, Parallel(pipeline=2, microbatches=2), ranks=4, pieces=2),
    "data x experts": Case(EXPERTS, Parallel(expert=2), ranks=4),
    "fsdp x tensor": Case(BLOCKS, Parallel(shard=True, tensor=2), ranks=4),
    "fsdp x pipeline": Case(BLOCKS, Parallel(shard=True, pipeline=2, microbatches=2), ranks=4),
    "fsdp x experts": Case(EXPERTS, Parallel(shard=True, expert=2), ranks=4),
    "pipeline x tensor": Case(
        BLOCKS, Parallel(pipeline=2, tensor=2, microbatches=2, schedule="gpipe"), ranks=4
    ),
    "pipeline of 4": Case(BLOCKS, Parallel(pipeline=4, microbatches=4), ranks=4),
    "experts x pipeline": Case(
        UNBALANCED, Parallel(expert=2, pipeline=2, microbatches=2), ranks=4, steps=10
    ),
    "experts x tensor": Case(EXPERTS, Parallel(expert=2, tensor=2), ranks=4, steps=10),
}
CASES = TWO | FOUR

# The gradient of attention's key biases is 0 but for rounding (a softmax does not change where the
# same is added to all), and AdamW makes steps of any rounding.
NOISE = ".key.bias"

LOSS = 2e-6  # largest difference of a weighted mean loss, of losses about 1
NORM = 1e-5  # largest relative difference of a gradient's norm
STATE = 2e-5  # largest difference of a parameter, after steps of about 0.1 in all
OUTPUTS = 2e-5


def work(name: str, rank: int, folder: Path) -> None:
    save(run(CASES[name], rank), folder / f"{name}-{rank}.npz")


def courses(folder: Path, ranks: int, cases: dict[str, Case]) -> dict[str, list[Course]]:
    world(ranks, folder, [partial(work, name) for name in cases])
    return {n: [load(folder / f"{n}-{rank}.npz") for rank in range(ranks)] for n in cases}


@pytest.fixture(scope="module")
def parallel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Course]]:
    """Return what each rank of each case saw."""
    two = courses(tmp_path_factory.mktemp("two"), 2, TWO)
    return two | courses(tmp_path_factory.mktemp("four"), 4, FOUR)


@cache
def alone(network: Network, steps: int) -> Course:
    return run(Case(network, steps=steps))


@pytest.mark.parametrize("name", CASES)
def test_a_strategy_is_one_process(parallel: dict[str, list[Course]], name: str) -> None:
    one = alone(CASES[name].network, CASES[name].steps)
    assert min(one.norms) > CLIP  # clipping is part of what is compared
    for rank in parallel[name]:
        torch.testing.assert_close(rank.losses, one.losses, atol=LOSS, rtol=0)
        torch.testing.assert_close(rank.norms, one.norms, atol=0, rtol=NORM)
        assert rank.state.keys() == one.state.keys()
        for parameter, tensor in rank.state.items():
            if not parameter.endswith(NOISE):
                torch.testing.assert_close(tensor, one.state[parameter], atol=STATE, rtol=0)
        torch.testing.assert_close(rank.outputs, one.outputs, atol=OUTPUTS, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_give_the_same_whole_state(parallel: dict[str, list[Course]], name: str) -> None:
    first, *others = parallel[name]
    for other in others:
        assert other.losses == first.losses
        assert other.norms == first.norms
        for parameter, tensor in first.state.items():
            assert torch.equal(other.state[parameter], tensor), parameter


@pytest.mark.parametrize("name", CASES)
def test_a_whole_state_can_be_put_back(parallel: dict[str, list[Course]], name: str) -> None:
    for rank in parallel[name]:
        assert not rank.silenced.any()
        assert rank.outputs.any()


def test_recomputed_gradients_are_the_same_to_the_last_bit(
    parallel: dict[str, list[Course]],
) -> None:
    kept, recomputed = (parallel[name][0] for name in ("ddp", "ddp, recomputed"))
    assert recomputed.losses == kept.losses
    for parameter, tensor in kept.state.items():
        assert torch.equal(recomputed.state[parameter], tensor), parameter
