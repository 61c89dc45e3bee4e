"""Who answers whom in a mixture of experts, and what it costs to use them unevenly."""

from collections import Counter

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training.networks.declared import Experts
from training.networks.experts import MixtureOfExperts, apply_stacked

WIDTH = 8


def layer(**declared: float | None) -> MixtureOfExperts:
    torch.manual_seed(0)
    return MixtureOfExperts(WIDTH, Experts(**{"count": 4, "top": 2, "hidden": 5, **declared}))  # type: ignore[arg-type]


def rows(n: int) -> Tensor:
    return torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(1))


def by_hand(mixture: MixtureOfExperts, x: Tensor) -> Tensor:
    """Return each row's answer, computed row by row from the definition."""
    answers = []
    for row in x:
        probabilities = torch.softmax(mixture.router(row), 0)
        best = probabilities.argsort(descending=True)[: mixture.declared.top]
        gates = probabilities[best]
        if mixture.declared.top > 1:
            gates = gates / gates.sum()
        answers.append(
            sum(
                gate
                * (functional.silu(row @ mixture.w1[e] + mixture.b1[e]) @ mixture.w2[e]
                   + mixture.b2[e])
                for e, gate in zip(best, gates, strict=True)
            )
        )  # fmt: skip
    return torch.stack(answers)


@pytest.mark.parametrize("top", [1, 2, 4])
def test_the_most_probable_experts_answer_in_both_modes(top: int) -> None:
    mixture, x = layer(top=top), rows(16)
    expected = by_hand(mixture, x)
    for training in (True, False):
        answered = mixture.train(training)(x.view(2, 8, WIDTH))
        assert torch.allclose(answered, expected.view(2, 8, WIDTH), atol=1e-6)


@pytest.mark.parametrize("top", [1, 2])
def test_gradients_reach_router_and_experts_as_finite_differences_say(top: int) -> None:
    mixture, x = layer(top=top).double(), rows(5).double().requires_grad_()
    assert torch.autograd.gradcheck(mixture, (x,))
    (mixture(x).sum() + mixture.balance_loss).backward()
    for name, parameter in mixture.named_parameters():
        assert parameter.grad is not None, name
    assert mixture.router.weight.grad is not None
    assert mixture.router.weight.grad.abs().max() > 0


def test_an_expert_takes_no_more_than_its_capacity_in_training_alone() -> None:
    mixture, x = layer(top=1, capacity=1.0), rows(20)
    unbounded = layer(top=1)
    chosen = mixture.router(x).argmax(dim=1).tolist()
    seen: Counter[int] = Counter()
    kept = []
    for expert in chosen:  # 20 rows over 4 experts: 5 each, the first that come
        kept.append(seen[expert] < 5)
        seen[expert] += 1
    assert not all(kept)
    answered, whole = mixture(x), unbounded(x)
    assert (answered.abs().sum(dim=1) > 0).tolist() == kept
    assert torch.allclose(answered[kept], whole[kept], atol=1e-6)
    assert torch.equal(mixture.eval()(x), unbounded.eval()(x))


def test_padding_takes_no_room_answers_zero_and_does_not_count() -> None:
    valid = torch.arange(20) % 3 > 0
    mixture, alone = layer(capacity=1.0), layer(capacity=1.0)
    x = rows(20)
    for training in (True, False):
        answered = mixture.train(training)(x, valid)
        expected = alone.train(training)(x[valid])
        assert (answered[~valid] == 0).all()
        assert torch.allclose(mixture.balance_loss, alone.balance_loss)
        if not training:
            assert torch.allclose(answered[valid], expected, atol=1e-6)


def test_the_balance_loss_is_least_where_all_experts_are_used_alike() -> None:
    mixture = layer(count=2, top=1, balance=0.1)
    with torch.no_grad():
        mixture.router.weight.zero_()
        mixture.router.weight[0, 0], mixture.router.weight[1, 0] = 20.0, -20.0
    one_sided, even = torch.ones(8, WIDTH), torch.ones(8, WIDTH)
    even[::2] *= -1
    mixture(one_sided)
    assert mixture.balance_loss.item() == pytest.approx(0.1 * 2 * 1.0)
    mixture(even)
    assert mixture.balance_loss.item() == pytest.approx(0.1 * 2 * 2 * 0.25)


def test_the_balance_over_several_pieces_is_that_of_the_whole() -> None:
    whole, part = layer(), layer()
    x = rows(12)
    whole(x)
    seen: list[Tensor] = []
    part.total = lambda sums: (seen.append(sums), sums)[1]  # type: ignore[func-returns-value]
    part(x[:5])
    part(x[5:])
    part.total = lambda _: seen[0] + seen[1]
    part(x[5:])
    assert part.balance_loss.item() == pytest.approx(whole.balance_loss.item(), rel=1e-6)


def test_another_dispatch_is_used_in_both_modes() -> None:
    """As when the experts lie on two ranks: each answers what is for it."""
    mixture, x = layer(), rows(16)

    def on_two_ranks(given: Tensor, experts: Tensor) -> Tensor:
        answers = torch.zeros_like(given)
        for low in (0, 2):
            mine = (experts >= low) & (experts < low + 2)
            held = [p[low : low + 2] for p in (mixture.w1, mixture.b1, mixture.w2, mixture.b2)]
            answers[mine] = apply_stacked(given[mine], experts[mine] - low, *held)
        return answers

    expected = mixture(x)
    mixture.dispatch = on_two_ranks
    assert torch.allclose(mixture(x), expected, atol=1e-6)
    assert torch.allclose(mixture.eval()(x), expected, atol=1e-6)
