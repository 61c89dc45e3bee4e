"""The declared networks as ONNX models: the same computation as in :mod:`training.networks`.

Written from the weights alone, without torch or an exporter: in milliseconds, and to the same bytes
each time. Whether it is the same computation is not believed but tried, on real rows, before a
package is written (:mod:`training.onnx_export`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streams.errors import ModelError
from training.networks.declared import Custom, Experts, Tabular, Transformer
from training.networks.shape import Shape
from training.onnx_graph import Graph

Weights = Mapping[str, NDArray[np.float32]]
"""Parameter's name → value, as the network's ``state_dict`` has them."""

_LAYER_NORM_EPSILON = 1e-5  # torch's own


class NotExportedError(ModelError):
    """A network that can't be written as an ONNX model; torch answers with it."""


def onnx_model(shape: Shape, weights: Weights) -> bytes:
    """Return the network of ``shape`` as an ONNX model of one output, "outputs" (n, O) float32.

    Its inputs are "numeric" (n, W) float32 and "codes" (n, C) int64, those of a network that sees
    last events (n, L, W), (n, L, C) and "lengths" (n,) int64; one without numeric or category
    features has them all the same.

    Raises:
        NotExportedError: it is a network of the user's own.
        ModelError: the weights are none of the network's.
    """
    try:
        match shape.network:
            case Tabular(experts=experts):
                return _tabular(shape, weights, experts)
            case Transformer() as declared:
                return _transformer(shape, weights, declared)
            case Custom(network=name):
                raise NotExportedError(f"{name} is a network of the user's own")
    except KeyError as error:
        raise ModelError(f"the weights of the network lack {error}") from error


def _tabular(shape: Shape, weights: Weights, experts: Experts | None) -> bytes:
    graph = Graph()
    numeric = graph.input("numeric", np.float32, "n", shape.numeric_width)
    codes = graph.input("codes", np.int64, "n", len(shape.code_counts))
    inputs = _embedded(graph, weights, "embeddings", numeric, codes, axis=1)
    numbers = sorted({int(name.split(".")[1]) for name in weights if name.startswith("deep.")})
    hidden = inputs
    for number in numbers[:-1]:
        name = f"deep.{number}"
        if experts is not None and f"{name}.mixture.w1" in weights:
            answered = _mixture(graph, weights, f"{name}.mixture", hidden, experts)
            hidden = graph.add("Add", hidden, answered)
        else:
            hidden = graph.silu(_linear(graph, weights, name, hidden))
    deep = _linear(graph, weights, f"deep.{numbers[-1]}", hidden)
    outputs = graph.add("Add", deep, _linear(graph, weights, "wide", inputs))
    return graph.to_bytes(outputs, "n", shape.outputs)


def _transformer(shape: Shape, weights: Weights, declared: Transformer) -> bytes:
    graph, last, width = Graph(), declared.last, declared.width
    numeric = graph.input("numeric", np.float32, "n", last, shape.numeric_width)
    codes = graph.input("codes", np.int64, "n", last, len(shape.code_counts))
    lengths = graph.input("lengths", np.int64, "n")
    begins = graph.add("Sub", graph.ints("last", last), _column(graph, lengths))  # (n, 1)
    valid = graph.add("GreaterOrEqual", graph.ints("places", *range(last)), begins)  # (n, L)
    each = graph.add("Unsqueeze", valid, graph.ints("axis_2", 2))
    numeric = graph.add("Where", each, numeric, graph.constant("zero", np.float32(0)))
    codes = graph.add("Where", each, codes, graph.ints("unknown", 0))
    inputs = _embedded(graph, weights, "inputs.embeddings", numeric, codes, axis=2)
    wide = weights["inputs.project.weight"].shape[1]
    rows = _linear(graph, weights, "inputs.project", graph.reshape(inputs, -1, wide))
    positions = graph.constant("positions", weights["positions"])
    x = graph.add("Add", graph.reshape(rows, -1, last, width), positions)
    mask = _mask(graph, valid, last)
    real = graph.reshape(valid, -1, 1)
    for number in range(declared.layers):
        block = f"blocks.{number}"
        normed = _layer_norm(graph, weights, f"{block}.attention_norm", x)
        x = graph.add("Add", x, _attention(graph, weights, block, normed, mask, declared))
        normed = _layer_norm(graph, weights, f"{block}.feed_forward_norm", x)
        rows = graph.reshape(normed, -1, width)
        if declared.experts is None:
            hidden = graph.silu(_linear(graph, weights, f"{block}.feed_forward.up", rows))
            answered = _linear(graph, weights, f"{block}.feed_forward.down", hidden)
        else:
            answered = _mixture(graph, weights, f"{block}.feed_forward", rows, declared.experts)
            answered = graph.add("Where", real, answered, "zero")
        x = graph.add("Add", x, graph.reshape(answered, -1, last, width))
    newest = graph.add("Gather", x, graph.constant("newest", np.int64(last - 1)), axis=1)
    outputs = _linear(graph, weights, "head", _layer_norm(graph, weights, "norm", newest))
    return graph.to_bytes(outputs, "n", shape.outputs)


def _embedded(
    graph: Graph, weights: Weights, name: str, numeric: str, codes: str, axis: int
) -> str:
    """Add the numeric inputs with the vectors of the categories behind them, along ``axis``."""
    parts, number = [numeric], 0
    while f"{name}.{number}.weight" in weights:
        table = graph.constant(f"{name}.{number}.weight", weights[f"{name}.{number}.weight"])
        place = graph.constant(f"category_{number}", np.int64(number))
        code = graph.add("Gather", codes, place, axis=axis)
        parts.append(graph.add("Gather", table, code))
        number += 1
    return graph.add("Concat", *parts, axis=axis) if number else numeric


def _attention(
    graph: Graph, weights: Weights, block: str, x: str, mask: str, declared: Transformer
) -> str:
    """Add softmax(q kᵀ / √d) v, head by head, of vectors (n, L, D): (n, L, D)."""
    last, width, heads = declared.last, declared.width, declared.heads
    rows = graph.reshape(x, -1, width)

    def of_heads(name: str) -> str:
        made = _linear(graph, weights, f"{block}.attention.{name}", rows)
        each = graph.reshape(made, -1, last, heads, width // heads)
        return graph.add("Transpose", each, perm=[0, 2, 1, 3])

    scale = graph.constant("scale", np.float32((width // heads) ** -0.5))
    keys = graph.add("Transpose", of_heads("key"), perm=[0, 1, 3, 2])
    looks = graph.add("Mul", graph.add("MatMul", of_heads("query"), keys), scale)
    hidden = graph.constant("hidden", np.float32(-np.inf))
    shares = graph.add("Softmax", graph.add("Where", mask, looks, hidden), axis=-1)
    mixed = graph.add("MatMul", shares, of_heads("value"))
    side_by_side = graph.reshape(graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), -1, width)
    answered = _linear(graph, weights, f"{block}.attention.out", side_by_side)
    return graph.reshape(answered, -1, last, width)


def _mask(graph: Graph, valid: str, last: int) -> str:
    """Add who may look at whom, (n, 1, L, L): events before, and itself."""
    causal = graph.constant("causal", np.tril(np.ones((last, last), np.bool_)))
    itself = graph.constant("itself", np.eye(last, dtype=np.bool_))
    events = graph.add("Unsqueeze", valid, graph.ints("axis_1", 1))
    seen = graph.add("Or", graph.add("And", events, causal), itself)
    return graph.add("Unsqueeze", seen, graph.ints("axis_1", 1))


def _mixture(graph: Graph, weights: Weights, name: str, rows: str, experts: Experts) -> str:
    """Add what the most probable experts answer to rows (n, D), weighted: (n, D).

    Every expert answers every row, and those that were not chosen count nothing.
    """
    router = graph.constant(f"{name}.router.weight", weights[f"{name}.router.weight"])
    logits = graph.add("Gemm", rows, router, transB=1)
    probabilities = graph.add("Softmax", logits, axis=1)
    top = graph.ints("top", experts.top)
    gates, chosen = graph.add_many("TopK", 2, probabilities, top, axis=1)
    if experts.top > 1:
        gates = graph.add("Div", gates, graph.add("ReduceSum", gates, graph.ints("axis_1", 1)))
    nothing = graph.add("Mul", probabilities, graph.constant("zero", np.float32(0)))
    shares = graph.add("ScatterElements", nothing, chosen, gates, axis=1)  # (n, E)
    total = ""
    for number in range(experts.count):
        hidden = graph.silu(_of_expert(graph, weights, name, "1", number, rows))
        answers = _of_expert(graph, weights, name, "2", number, hidden)
        share = graph.add("Gather", shares, graph.ints(f"expert_{number}", number), axis=1)
        weighted = graph.add("Mul", answers, share)
        total = graph.add("Add", total, weighted) if total else weighted
    return total


def _of_expert(
    graph: Graph, weights: Weights, name: str, layer: str, number: int, inputs: str
) -> str:
    """Add one expert's linear layer of inputs (n, D); a product of all experts' at once would sum
    a row that stands alone in another order."""
    own = f"{name}.{number}.layer{layer}"
    weight, bias = weights[f"{name}.w{layer}"][number], weights[f"{name}.b{layer}"][number]
    return graph.linear(inputs, own, weight.T, bias)


def _linear(graph: Graph, weights: Weights, name: str, inputs: str) -> str:
    return graph.linear(inputs, name, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _layer_norm(graph: Graph, weights: Weights, name: str, inputs: str) -> str:
    scale = graph.constant(f"{name}.weight", weights[f"{name}.weight"])
    bias = graph.constant(f"{name}.bias", weights[f"{name}.bias"])
    return graph.add(
        "LayerNormalization", inputs, scale, bias, axis=-1, epsilon=_LAYER_NORM_EPSILON
    )


def _column(graph: Graph, values: str) -> str:
    return graph.reshape(values, -1, 1)
