"""A causal Transformer over an entity's last events. torch alone.

Blocks with the normalisation in front (Xiong et al. 2020), learned positions that count from the
newest event, and an answer from the newest event's vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.networks.alignment import filled
from training.networks.declared import Transformer
from training.networks.experts import MixtureOfExperts
from training.networks.links import Cut, Link, run_links
from training.networks.tabular import embedding_width

FEED_FORWARD_FACTOR = 4  # width of the feed-forward networks over that of the vectors


class TransformerNetwork(nn.Module):
    """Events in, the newest event's outputs out; an event sees itself and those before it.

    What lies left of an entity's first event is padding: it may hold anything, NaN too, and does
    not change a bit of the outputs.

    Args:
        numeric_width: W, numeric inputs per event.
        code_counts: per category feature the number of codes, 0 for unknown included.
        declared: widths and depths.
        outputs: how many numbers it gives per example.
    """

    def __init__(
        self,
        numeric_width: int,
        code_counts: Sequence[int],
        declared: Transformer,
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self.declared = declared
        self.inputs = EventInputs(numeric_width, code_counts, declared.width)
        self.positions = nn.Parameter(torch.randn(declared.last, declared.width) * 0.02)
        self.blocks = nn.ModuleList([Block(declared) for _ in range(declared.layers)])
        self.norm = nn.LayerNorm(declared.width)
        self.head = nn.Linear(declared.width, outputs)

    def forward(self, numeric: Tensor, codes: Tensor, lengths: Tensor) -> Tensor:
        """Return outputs (n, O) of numeric (n, L, W), codes (n, L, C), lengths (n,) in 1..L."""
        return run_links(self.links(), (numeric, codes, lengths))

    def links(self) -> list[Link]:
        """Return the network as a chain: inputs, each block, head."""
        blocks = [_link(self, i) for i in range(self.declared.layers)]
        first = Link(("inputs.", "positions"), lambda inputs, _: self._embed(*inputs))
        last = Link(("norm.", "head."), lambda _, x: self._answer(_given(x)))
        return [first, *blocks, last]

    def tensor_plan(self) -> dict[str, Cut]:
        """Return how the layers of the blocks are cut over ranks: attention head by head."""
        plan: dict[str, Cut] = {}
        for i in range(self.declared.layers):
            for name in ("query", "key", "value"):
                plan[f"blocks.{i}.attention.{name}"] = "column"
            plan[f"blocks.{i}.attention.out"] = "row"
            if self.declared.experts is None:
                plan[f"blocks.{i}.feed_forward.up"] = "column"
                plan[f"blocks.{i}.feed_forward.down"] = "row"
        return plan

    def _embed(self, numeric: Tensor, codes: Tensor, lengths: Tensor) -> Tensor:
        valid = valid_events(lengths, self.declared.last)[:, :, None]
        vectors = self.inputs(torch.where(valid, numeric, 0.0), torch.where(valid, codes, 0))
        embedded: Tensor = vectors + self.positions
        return embedded

    def _answer(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.head(self.norm(x[:, -1]))
        return outputs


class EventInputs(nn.Module):
    """Makes one vector of an event's numbers and embedded categories."""

    def __init__(self, numeric_width: int, code_counts: Sequence[int], width: int) -> None:
        super().__init__()
        widths = [embedding_width(count) for count in code_counts]
        self.embeddings = nn.ModuleList(
            [nn.Embedding(count, each) for count, each in zip(code_counts, widths, strict=True)]
        )
        for embedding in self.embeddings:
            nn.init.normal_(embedding.weight, std=0.1)  # type: ignore[arg-type]
        self.project = nn.Linear(numeric_width + sum(widths), width)

    def forward(self, numeric: Tensor, codes: Tensor) -> Tensor:
        """Return vectors (..., D) of numeric (..., W) and codes (..., C)."""
        embedded = [embedding(codes[..., i]) for i, embedding in enumerate(self.embeddings)]
        vectors: Tensor = self.project(torch.cat([numeric, *embedded], dim=-1))
        return vectors


class Block(nn.Module):
    """Attention, then a feed-forward network or experts; both add to what they are given."""

    def __init__(self, declared: Transformer) -> None:
        super().__init__()
        width = declared.width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalAttention(width, declared.heads)
        self.feed_forward_norm = nn.LayerNorm(width)
        if declared.experts is None:
            self.feed_forward: nn.Module = FeedForward(width)
        else:
            self.feed_forward = MixtureOfExperts(width, declared.experts)
        self.dropout = nn.Dropout(declared.dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return vectors (n, L, D) of vectors (n, L, D) and lengths (n,)."""
        valid = valid_events(lengths, x.shape[1])
        x = x + self.dropout(self.attention(self.attention_norm(x), valid))
        answered: Tensor = x + self.dropout(self.feed_forward(self.feed_forward_norm(x), valid))
        return answered


class CausalAttention(nn.Module):
    """Scaled dot-product attention of each event to itself and those before it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_width = width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Return (n, L, D) of vectors (n, L, D), of which ``valid`` (n, L) are events."""
        n, last, _ = x.shape
        # The number of heads follows from the width: a rank of several may hold some of them only.
        query, key, value = (
            filled(linear(x).view(n, last, -1, self.head_width)).transpose(1, 2)
            for linear in (self.query, self.key, self.value)
        )
        mixed = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=attention_mask(valid), scale=self.head_width**-0.5
        )[..., : self.head_width]
        answered: Tensor = self.out(mixed.transpose(1, 2).reshape(n, last, -1))
        return answered


class FeedForward(nn.Module):
    """Two layers with SiLU between, event by event."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, FEED_FORWARD_FACTOR * width)
        self.down = nn.Linear(FEED_FORWARD_FACTOR * width, width)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Return (n, L, D) of vectors (n, L, D); padding is computed too, and never read."""
        answered: Tensor = self.down(functional.silu(self.up(x)))
        return answered


def valid_events(lengths: Tensor, last: int) -> Tensor:
    """Return which of ``last`` places hold an event, (n, L) bool; the newest stands at the end."""
    return torch.arange(last, device=lengths.device) >= last - lengths[:, None]


def attention_mask(valid: Tensor) -> Tensor:
    """Return who may look at whom, (n, 1, L, L) bool, of ``valid`` (n, L).

    Padding looks at itself: a row of nothing but −∞ would make the softmax, and then the
    gradients of everything, NaN.
    """
    last = valid.shape[1]
    causal = torch.ones(last, last, dtype=torch.bool, device=valid.device).tril()
    itself = torch.eye(last, dtype=torch.bool, device=valid.device)
    return ((causal & valid[:, None, :]) | itself)[:, None]


def _link(network: TransformerNetwork, number: int) -> Link:
    def run(inputs: tuple[Tensor, ...], x: Tensor | None) -> Tensor:
        answered: Tensor = network.blocks[number](_given(x), inputs[2])
        return answered

    return Link((f"blocks.{number}.",), run)


def _given(x: Tensor | None) -> Tensor:
    if x is None:
        raise ValueError("a link behind the first needs what the one before it gave")
    return x
