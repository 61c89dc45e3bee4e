"""Writes ONNX graphs, node by node: what :mod:`training.onnx_networks` is written with.

The same calls give the same bytes. The package ``onnx`` is needed to write a model, not to answer
with one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET = 17
"""The version of ONNX's operators: the first with LayerNormalization (2022)."""

IR_VERSION = 8
"""The version of the file format that came with it; newer runtimes read it as well."""


class Graph:
    """A graph in the making; values are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._inputs: list[Any] = []
        self._constants: dict[str, Any] = {}

    def input(self, name: str, dtype: type[np.generic], *places: str | int) -> str:
        """Add an input of shape ``places``, where a text is a size that may be any."""
        self._inputs.append(_value(name, dtype, places))
        return name

    def constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        """Add a constant under ``name``; one that is there already has to be the same."""
        from onnx import numpy_helper

        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one output and return the output's name."""
        return self.add_many(operator, 1, *inputs, **attributes)[0]

    def add_many(self, operator: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        from onnx import helper

        number = len(self._nodes)
        names = [f"{operator.lower()}_{number}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(operator, inputs, names, **attributes))
        return names

    def linear(self, inputs: str, name: str, weight: NDArray[Any], bias: NDArray[Any]) -> str:
        """Add inputs (n, W) · weightᵀ (W, H) + bias (H,)."""
        w = self.constant(f"{name}.weight", weight)
        return self.add("Gemm", inputs, w, self.constant(f"{name}.bias", bias), transB=1)

    def silu(self, inputs: str) -> str:
        """Add x · sigmoid(x)."""
        return self.add("Mul", inputs, self.add("Sigmoid", inputs))

    def reshape(self, inputs: str, *places: int) -> str:
        """Add a reshape; 0 keeps a size, −1 is what is left."""
        shape = "x".join(map(str, places))
        return self.add("Reshape", inputs, self.ints(f"shape_{shape}", *places))

    def ints(self, name: str, *values: int) -> str:
        """Add a constant vector of whole numbers."""
        return self.constant(name, np.array(values, np.int64))

    def to_bytes(self, output: str, *places: str | int) -> bytes:
        """Return the model whose one output, float32 of shape ``places``, is the value ``output``.

        The output is called "outputs".
        """
        from onnx import helper

        self._nodes.append(helper.make_node("Identity", [output], ["outputs"]))
        graph = helper.make_graph(
            self._nodes,
            "network",
            self._inputs,
            [_value("outputs", np.float32, places)],
            list(self._constants.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="kappa-ml",
        )
        data: bytes = model.SerializeToString(deterministic=True)
        return data


def _value(name: str, dtype: type[np.generic], places: Sequence[str | int]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(places)
    )
