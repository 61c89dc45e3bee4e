"""A mixture of experts: small feed-forward networks, few of which answer each example. torch alone.

A router gives each row a probability per expert; the ``top`` most probable ones answer it, weighted
by their share of the probability (Shazeer et al. 2017). A loss that is least where all experts are
used alike keeps the router from leaving some of them out (Fedus et al. 2021, equation 4).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.alignment import aligned_product
from training.networks.declared import Experts

Dispatch = Callable[[Tensor, Tensor], Tensor]
"""Applies expert ``experts[a]`` to ``rows[a]``: from (A, D) and (A,) int64 to (A, D)."""

Total = Callable[[Tensor], Tensor]
"""Sums a vector over all that see a part of the batch; the gradient goes through."""


class MixtureOfExperts(nn.Module):
    """The layer; see the module. It has no residual path of its own.

    ``dispatch`` may be replaced: by one that sends rows to the ranks that hold the experts; and
    ``total``, which the sums of the balance loss go through, (2 E + 1,): choices and probabilities
    per expert, rows. After each forward pass ``balance_loss`` is the weighted loss, a scalar.

    Args:
        width: D, of inputs and outputs.
        experts: how many there are, how wide, how many answer.
    """

    def __init__(self, width: int, experts: Experts) -> None:
        super().__init__()
        count, hidden = experts.count, experts.hidden
        self.declared = experts
        self.router = nn.Linear(width, count, bias=False)
        self.w1 = nn.Parameter(_uniform(count, width, hidden, fan_in=width))
        self.b1 = nn.Parameter(_uniform(count, hidden, fan_in=width))
        self.w2 = nn.Parameter(_uniform(count, hidden, width, fan_in=hidden))
        self.b2 = nn.Parameter(_uniform(count, width, fan_in=hidden))
        self.dispatch: Dispatch | None = None
        self.total: Total = _of_this_rank
        self.balance_loss = torch.zeros(())

    def forward(self, inputs: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return outputs (..., D) of inputs (..., D).

        ``valid`` (...) bool: rows that are none take no expert's time and answer zero. In training
        an expert takes no more than its capacity, those that come first; what it does not take
        adds nothing. Outside training every row is answered by all of its experts, and its answer
        depends on that row alone, to the last bit.
        """
        rows = inputs.reshape(-1, inputs.shape[-1])
        real = None if valid is None else valid.reshape(-1)
        logits = self.router(rows)
        exact = torch.promote_types(logits.dtype, torch.float32)  # of bfloat16 too
        probabilities = torch.softmax(logits, dim=1, dtype=exact)
        gates, chosen = torch.topk(probabilities, self.declared.top, dim=1)
        if self.declared.top > 1:  # a single gate stays as it is: it is the router's only gradient
            gates = gates / gates.sum(dim=1, keepdim=True)
        self.balance_loss = self._balance(probabilities, chosen, real)
        if self.training or self.dispatch is not None:
            answers = self._answer_some(rows, gates, chosen, real)
        else:
            answers = self._answer_all(rows, gates, chosen)
            if real is not None:
                answers = torch.where(real[:, None], answers, 0.0)
        return answers.to(inputs.dtype).reshape(inputs.shape)

    def _answer_some(
        self, rows: Tensor, gates: Tensor, chosen: Tensor, real: Tensor | None
    ) -> Tensor:
        """Send each row to its experts, as far as they have room."""
        of_row = torch.arange(len(rows), device=rows.device).repeat_interleave(chosen.shape[1])
        experts, gate = chosen.reshape(-1), gates.reshape(-1)
        kept = torch.ones_like(experts, dtype=torch.bool) if real is None else real[of_row]
        if self.training and self.declared.capacity is not None:
            share = math.ceil(self.declared.capacity * len(experts) / self.declared.count)
            kept = kept & (_places(experts, kept, self.declared.count) < share)
        where = torch.nonzero(kept)[:, 0]
        of_row, experts, gate = of_row[where], experts[where], gate[where]
        dispatch = self.dispatch or self.apply_experts
        answers = dispatch(rows[of_row], experts) * gate[:, None]
        return torch.zeros(rows.shape, dtype=answers.dtype, device=rows.device).index_add(
            0, of_row, answers
        )

    def _answer_all(self, rows: Tensor, gates: Tensor, chosen: Tensor) -> Tensor:
        """Let every expert answer every row, and take what was chosen: products of fixed shape."""
        answers = torch.stack([self._answer_of(expert, rows) for expert in range(len(self.w1))])
        total = torch.zeros_like(rows, dtype=gates.dtype)
        each = torch.arange(len(rows), device=rows.device)
        for place in range(chosen.shape[1]):
            total = total + answers[chosen[:, place], each] * gates[:, place, None]
        return total

    def _answer_of(self, expert: int, rows: Tensor) -> Tensor:
        hidden = aligned_product(rows, self.w1[expert]) + self.b1[expert]
        return aligned_product(functional.silu(hidden), self.w2[expert]) + self.b2[expert]

    def apply_experts(self, rows: Tensor, experts: Tensor) -> Tensor:
        """Apply expert ``experts[a]`` of this layer's own to ``rows[a]``; see :data:`Dispatch`."""
        return apply_stacked(rows, experts, self.w1, self.b1, self.w2, self.b2)

    def _balance(self, probabilities: Tensor, chosen: Tensor, real: Tensor | None) -> Tensor:
        """Return balance · E · Σₑ (share of the choices) · (mean probability), at best balance."""
        count = self.declared.count
        picks = functional.one_hot(chosen, count).sum(dim=1).to(probabilities.dtype)
        rows = picks.new_ones(len(picks)) if real is None else real.to(picks.dtype)
        seen = torch.cat([rows @ picks, rows @ probabilities, rows.sum()[None]])
        picked, probable, number = torch.split(self.total(seen), [count, count, 1])
        number = number.clamp(min=1)
        shares = picked / (number * chosen.shape[1])
        return self.declared.balance * count * (shares * probable / number).sum()


def apply_stacked(
    rows: Tensor, experts: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor
) -> Tensor:
    """Return (A, D): expert ``experts[a]`` of the stack applied to ``rows[a]``, (A, D).

    w1 (E, D, H), b1 (E, H), w2 (E, H, D), b2 (E, D). Each expert sees its rows in one product.
    """
    order = torch.argsort(experts, stable=True)
    counts = torch.bincount(experts, minlength=len(w1)).tolist()
    pieces = torch.split(rows[order], counts)
    answers = torch.cat(
        [
            functional.silu(piece @ w1[e] + b1[e]) @ w2[e] + b2[e]
            for e, piece in enumerate(pieces)  # with no rows too: every expert has a gradient
        ]
    )
    return torch.empty_like(answers).index_copy(0, order, answers)


def _of_this_rank(sums: Tensor) -> Tensor:
    return sums


def _places(experts: Tensor, kept: Tensor, count: int) -> Tensor:
    """Return how many kept rows before each one go to the same expert, (A,)."""
    picks = functional.one_hot(experts, count) * kept[:, None]
    return (picks.cumsum(dim=0) - picks).gather(1, experts[:, None])[:, 0]


def _uniform(*shape: int, fan_in: int) -> Tensor:
    """Return values as ``nn.Linear`` draws them, for a stack of layers."""
    bound = 1 / math.sqrt(fan_in)
    return torch.empty(*shape).uniform_(-bound, bound)
