"""Every parallelism is one process with the whole batch: 50 steps of AdamW, clipped, one start.

One launch of 2 Gloo ranks and one of 4 run all the cases; see the tolerances at the end.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.parallel.cases import CLIP, Case, Course, load, run, save
from tests.training.parallel.works import (
    MICROBATCHES,
    OWN,
    buffers,
    overflow,
    pipelines,
    refusals,
    repeated,
)
from tests.training.parallel.worlds import Work, world
from training.networks.declared import Experts, Tabular, Transformer
from training.parallel.declared import Parallel
from training.parallel.measuring import Interval, expected_bubble, idle_share

LAYERS = Tabular((16, 8))
BLOCKS = Transformer(last=4, width=16, layers=2, heads=4)
DEALT = Experts(4, top=2, hidden=8, balance=0.1)
TABULAR_EXPERTS = Tabular((16, 8), experts=DEALT)
EXPERTS = Transformer(last=4, width=16, layers=1, heads=4, experts=DEALT)
# A pipeline balances micro-batch by micro-batch, which is not the balance of the whole.
UNBALANCED = Transformer(last=4, width=16, layers=2, heads=4, experts=replace(DEALT, balance=0.0))

GPIPE = Parallel(pipeline=2, microbatches=4, schedule="gpipe")
ONE_F_ONE_B = Parallel(pipeline=2, microbatches=3, schedule="1f1b")

TWO = {
    "ddp": Case(LAYERS, ranks=2),
    "ddp, recomputed": Case(LAYERS, ranks=2, recompute=True),
    "ddp, pieces": Case(LAYERS, ranks=2, pieces=3),
    "ddp, empty pieces": Case(LAYERS, ranks=2, pieces=14, steps=5),
    "ddp of blocks": Case(BLOCKS, ranks=2, pieces=2),
    "ddp of experts": Case(TABULAR_EXPERTS, ranks=2),
    "ddp of one's own": Case(OWN, ranks=2, steps=5),
    "fsdp": Case(LAYERS, Parallel(shard=True), ranks=2),
    "fsdp of one's own": Case(OWN, Parallel(shard=True), ranks=2, recompute=True, steps=5),
    "fsdp of blocks": Case(BLOCKS, Parallel(shard=True), ranks=2, pieces=2),
    "fsdp of blocks, recomputed": Case(BLOCKS, Parallel(shard=True), 2, recompute=True, steps=5),
    "tensor": Case(LAYERS, Parallel(tensor=2), ranks=2),
    "tensor of blocks": Case(BLOCKS, Parallel(tensor=2), ranks=2),
    "tensor of blocks, recomputed": Case(BLOCKS, Parallel(tensor=2), 2, recompute=True, steps=5),
    "gpipe": Case(LAYERS, GPIPE, ranks=2, pieces=2),
    "gpipe of blocks": Case(BLOCKS, GPIPE, ranks=2),
    "1f1b of blocks": Case(BLOCKS, ONE_F_ONE_B, ranks=2),
    "1f1b of blocks, recomputed": Case(BLOCKS, ONE_F_ONE_B, ranks=2, recompute=True, steps=5),
    "1f1b, padded": Case(BLOCKS, replace(ONE_F_ONE_B, microbatches=7), 2, pieces=2, steps=5),
    "1f1b of experts": Case(UNBALANCED, ONE_F_ONE_B, ranks=2),
    "experts": Case(TABULAR_EXPERTS, Parallel(expert=2), ranks=2),
    "experts of blocks": Case(EXPERTS, Parallel(expert=2), ranks=2),
    "experts of blocks, recomputed": Case(EXPERTS, Parallel(expert=2), 2, recompute=True, steps=5),
}
BOTH = replace(ONE_F_ONE_B, microbatches=2)
FOUR = {
    "data x tensor": Case(BLOCKS, Parallel(tensor=2), ranks=4),
    "data x pipeline": Case(BLOCKS, BOTH, ranks=4, pieces=2),
    "data x experts": Case(EXPERTS, Parallel(expert=2), ranks=4),
    "fsdp x tensor": Case(BLOCKS, Parallel(shard=True, tensor=2), ranks=4),
    "fsdp x pipeline": Case(BLOCKS, replace(BOTH, shard=True), ranks=4, pieces=2),
    "fsdp x experts": Case(EXPERTS, Parallel(shard=True, expert=2), ranks=4),
    "pipeline x tensor": Case(BLOCKS, replace(BOTH, tensor=2), ranks=4),
    "pipeline of 4": Case(BLOCKS, replace(GPIPE, pipeline=4), ranks=4),
    "experts x pipeline": Case(UNBALANCED, replace(BOTH, expert=2), ranks=4),
    "experts x tensor": Case(EXPERTS, Parallel(expert=2, tensor=2), ranks=4),
}
FOUR = {name: replace(case, steps=15) for name, case in FOUR.items()}
CASES = TWO | FOUR
MIXED = {
    name: replace(CASES[name], dtype=torch.bfloat16, steps=5)
    for name in ("ddp of blocks", "fsdp of blocks", "tensor of blocks", "1f1b of blocks", "experts")
}

# The gradient of attention's key biases is 0 but for rounding (a softmax does not change where the
# same is added to all), and AdamW makes steps of any rounding.
NOISE = ".key.bias"

LOSS = 2e-6  # largest difference of a weighted mean loss, of losses about 1
NORM = 1e-5  # largest relative difference of a gradient's norm
STATE = 1e-4  # largest difference of a parameter, after steps of about 0.1 in all
OUTPUTS = 2e-5


def trained(cases: dict[str, Case], prefix: str = "") -> list[Work]:
    return [partial(_trained, case, f"{prefix}{name}") for name, case in cases.items()]


def _trained(case: Case, name: str, rank: int, folder: Path) -> None:
    save(run(case, rank), folder / f"{name}-{rank}.npz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the ranks' findings are."""
    two, four = (tmp_path_factory.mktemp(name) for name in ("two", "four"))
    world(
        2, two, [*trained(TWO), *trained(MIXED, "mixed "), refusals, overflow, pipelines, buffers]
    )
    world(4, four, [*trained(FOUR), repeated])
    for found in [*four.glob("*.npz"), *four.glob("*.json")]:
        shutil.move(found, two)
    return two


def courses(folder: Path, name: str) -> list[Course]:
    ranks = CASES[name.removeprefix("mixed ")].ranks
    return [load(folder / f"{name}-{rank}.npz") for rank in range(ranks)]


def noted(folder: Path, name: str) -> list[Any]:
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


@cache
def alone(name: str) -> Course:
    """Return what one process makes of a case's network."""
    case = CASES[name]
    alike = next(n for n, c in CASES.items() if (c.network, c.steps) == (case.network, case.steps))
    return run(Case(case.network, steps=case.steps)) if alike == name else alone(alike)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute as the ranks do; threads that wait for each other cost most of the time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("name", CASES)
def test_a_strategy_is_one_process(folder: Path, name: str) -> None:
    one = alone(name)
    assert min(one.norms) > CLIP  # clipping is part of what is compared
    for rank in courses(folder, name):
        torch.testing.assert_close(rank.losses, one.losses, atol=LOSS, rtol=0)
        torch.testing.assert_close(rank.norms, one.norms, atol=0, rtol=NORM)
        assert rank.state.keys() == one.state.keys()
        for parameter, tensor in rank.state.items():
            if not parameter.endswith(NOISE):
                torch.testing.assert_close(tensor, one.state[parameter], atol=STATE, rtol=0)
        torch.testing.assert_close(rank.outputs, one.outputs, atol=OUTPUTS, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_all_ranks_give_the_same_whole_state(folder: Path, name: str) -> None:
    first, *others = courses(folder, name)
    for other in others:
        assert other.losses == first.losses
        assert other.norms == first.norms
        for parameter, tensor in first.state.items():
            assert torch.equal(other.state[parameter], tensor), parameter


@pytest.mark.parametrize("name", CASES)
def test_a_whole_state_can_be_put_back(folder: Path, name: str) -> None:
    for rank in courses(folder, name):
        assert not rank.silenced.any()
        assert rank.outputs.any()


def test_recomputed_gradients_are_the_same_to_the_last_bit(folder: Path) -> None:
    kept, recomputed = (courses(folder, name)[0] for name in ("ddp", "ddp, recomputed"))
    assert recomputed.losses == kept.losses
    for parameter, tensor in kept.state.items():
        assert torch.equal(recomputed.state[parameter], tensor), parameter


@pytest.mark.parametrize("name", MIXED)
def test_bfloat16_is_roughly_the_same(folder: Path, name: str) -> None:
    one = alone(name)
    for rank in courses(folder, f"mixed {name}"):
        assert rank.losses != one.losses[:5]
        torch.testing.assert_close(rank.losses, one.losses[:5], atol=0.02, rtol=0)
        assert {tensor.dtype for tensor in rank.state.values()} == {torch.float32}


def test_accumulation_is_the_large_batch() -> None:
    whole, cut = run(Case(LAYERS)), run(Case(LAYERS, pieces=4))
    torch.testing.assert_close(cut.losses, whole.losses, atol=LOSS, rtol=0)
    for parameter, tensor in whole.state.items():
        torch.testing.assert_close(cut.state[parameter], tensor, atol=STATE, rtol=0)


def test_what_cannot_be_is_refused_and_says_why(folder: Path) -> None:
    said, other = noted(folder, "refusals")
    assert said == other
    assert "tensor_plan()" in said["own, tensor"]
    assert "links()" in said["own, pipeline"]
    assert "no mixture of experts" in said["own, expert"]
    assert "3 heads" in said["heads"]
    assert "the width 15 of layer deep.0" in said["widths"]
    assert "tensor_plan()" in said["one layer"]
    assert "3 experts" in said["experts"]
    assert "multiple of 4" in said["ranks"]


@pytest.mark.parametrize("name", ["fsdp", "tensor", "pipeline"])
def test_an_overflow_on_one_rank_skips_the_step_on_all(folder: Path, name: str) -> None:
    for rank in noted(folder, "overflow"):
        assert rank[name]["moved"] == [False, True]
        assert not math.isfinite(rank[name]["norms"][0])
        assert math.isfinite(rank[name]["norms"][1])
        assert rank[name]["scales"] == [2.0**15, 2.0**15]


@pytest.mark.parametrize("name", ["ddp", "fsdp", "data x tensor", "data x pipeline"])
def test_the_first_step_after_a_start_is_like_any_other(folder: Path, name: str) -> None:
    """To the last bit: a run that is resumed goes on as if it had never stopped."""
    for rank in noted(folder, "repeated"):
        assert rank[name] == [True, True, True]


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_the_whole_state_holds_one_shares_buffers(folder: Path, name: str) -> None:
    first, second = (rank[name] for rank in noted(folder, "buffers"))
    assert first[0] != second[0]
    assert first[1] == second[1] == first[0]


def test_1f1b_holds_fewer_activations_than_gpipe(folder: Path) -> None:
    stages = noted(folder, "pipelines")
    assert [stage["gpipe"]["in_flight"] for stage in stages] == [MICROBATCHES, MICROBATCHES]
    assert [stage["1f1b"]["in_flight"] for stage in stages] == [2, 1]
    held = [stage["1f1b"]["saved_bytes"] / stage["gpipe"]["saved_bytes"] for stage in stages]
    assert held[0] == pytest.approx(2 / MICROBATCHES, rel=0.2)
    assert held[1] == pytest.approx(1 / MICROBATCHES, rel=0.2)


@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_the_bubble_is_measured(folder: Path, schedule: str) -> None:
    intervals = [
        Interval(*each) for s in noted(folder, "pipelines") for each in s[schedule]["intervals"]
    ]
    passes = {(each.stage, each.microbatch, each.work) for each in intervals}
    assert len(passes) == len(intervals) == 2 * 2 * MICROBATCHES
    assert 0 < idle_share(intervals, stages=2) < 1
    assert expected_bubble(2, MICROBATCHES) == pytest.approx(1 / 7)


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a compiler")
@pytest.mark.filterwarnings("default")  # the compiler looks at tensors in ways that warn
def test_a_compiled_network_is_the_same() -> None:
    plain, compiled = (run(Case(BLOCKS, compile=flag, steps=5)) for flag in (False, True))
    torch.testing.assert_close(compiled.losses, plain.losses, atol=LOSS, rtol=0)
    assert compiled.state.keys() == plain.state.keys()
