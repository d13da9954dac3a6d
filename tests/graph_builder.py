"""A few lines over onnx.helper, to write small models with seeded weights (see families.py).

Weights are scaled by their fan-in, so that activations stay O(1) through any depth.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Pair = int | tuple[int, int]


def _pair(value: Pair) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class Graph:
    """One ONNX graph being written. Every method that adds a node returns the name of its output.

    The number of channels of each tensor that the helpers below made is known, so callers only name
    the number of channels they want next.
    """

    def __init__(self, seed: int, *, opset: int, ir: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset, self.ir = opset, ir
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.channels: dict[str, int] = {}
        self._count = 0

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}_{self._count}"

    def input(self, name: str, shape: Sequence[int | str], channels: int = 3) -> str:
        """Declare a float32 input; strings are symbolic dimensions."""
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.channels[name] = channels
        return name

    def node(self, op_type: str, *inputs: str, name: str = "", channels: int = 0, **attributes: Any) -> str:
        """Add a node of one output. `channels`: of its output; that of its first input by default."""
        output = name or self._fresh(op_type)
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=f"node_{output}", **attributes))
        self.channels[output] = channels or (self.channels.get(inputs[0], 0) if inputs else 0)
        return output

    def initializer(self, value: object, dtype: type = np.float32, name: str = "") -> str:
        """Add a constant as an initializer."""
        name = name or self._fresh("constant")
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def constant(self, value: object, dtype: type = np.int64) -> str:
        """Add a constant as a Constant node, as torch's legacy exporter writes shapes and pads."""
        return self.node("Constant", value=numpy_helper.from_array(np.asarray(value, dtype)))

    def weight(self, *shape: int, fan_in: int, gain: float = 2.0) -> str:
        """Random weights of variance gain / fan_in (2: keeps the scale through a Relu)."""
        return self.initializer(self.rng.standard_normal(shape) * np.sqrt(gain / fan_in))

    def conv(
        self,
        x: str,
        out: int,
        kernel: Pair,
        *,
        stride: Pair = 1,
        pads: int | Sequence[int] = 0,
        dilation: Pair = 1,
        group: int = 1,
        bias: bool = True,
        auto_pad: str = "",
        gain: float = 2.0,
    ) -> str:
        """Conv. `pads`: one number, or (top, left, bottom, right); `auto_pad` takes its place."""
        ky, kx = _pair(kernel)
        inner = self.channels[x] // group
        inputs = [x, self.weight(out, inner, ky, kx, fan_in=inner * ky * kx, gain=gain)]
        if bias:
            inputs.append(self.initializer(self.rng.standard_normal(out) * 0.1))
        padding: dict[str, Any] = (
            {"auto_pad": auto_pad}
            if auto_pad
            else {"pads": [pads] * 4 if isinstance(pads, int) else list(pads)}
        )
        return self.node(
            "Conv",
            *inputs,
            channels=out,
            kernel_shape=[ky, kx],
            strides=_pair(stride),
            dilations=_pair(dilation),
            group=group,
            **padding,
        )

    def relu(self, x: str) -> str:
        return self.node("Relu", x)

    def conv_relu(
        self, x: str, out: int, kernel: Pair, *, stride: Pair = 1, pads: int | Sequence[int] = 0
    ) -> str:
        return self.relu(self.conv(x, out, kernel, stride=stride, pads=pads))

    def batch_norm(self, x: str, epsilon: float = 1e-3) -> str:
        """An unfolded BatchNormalization of inference."""
        c, rng = self.channels[x], self.rng
        parameters = (
            rng.uniform(0.7, 1.3, c),
            rng.normal(0, 0.2, c),
            rng.normal(0, 0.2, c),
            rng.uniform(0.6, 1.4, c),
        )
        return self.node("BatchNormalization", x, *(self.initializer(p) for p in parameters), epsilon=epsilon)

    def pool(self, op_type: str, x: str, kernel: Pair, stride: Pair, **attributes: Any) -> str:
        return self.node(op_type, x, kernel_shape=_pair(kernel), strides=_pair(stride), **attributes)

    def concat(self, *xs: str) -> str:
        """Concat on channels, NCHW."""
        return self.node("Concat", *xs, axis=1, channels=sum(self.channels[x] for x in xs))

    def gemm(
        self, x: str, inner: int, out: int, *, name: str = "", trans_b: bool = True, gain: float = 4.0
    ) -> str:
        shape = (out, inner) if trans_b else (inner, out)
        weight = self.weight(*shape, fan_in=inner, gain=gain)
        bias = self.initializer(self.rng.standard_normal(out) * 0.1)
        return self.node(
            "Gemm", x, weight, bias, name=name, channels=out, alpha=1.0, beta=1.0, transB=int(trans_b)
        )

    def model(
        self, outputs: dict[str, Sequence[int | str]], *, domains: Sequence[str] = ()
    ) -> onnx.ModelProto:
        """The finished model, checked. `domains`: further, unused operator-set imports."""
        graph = helper.make_graph(
            self.nodes,
            "graph",
            self.inputs,
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in outputs.items()
            ],
            self.initializers,
        )
        imports = [
            helper.make_opsetid("", self.opset),
            *(helper.make_opsetid(domain, 2) for domain in domains),
        ]
        model = helper.make_model(graph, opset_imports=imports, ir_version=self.ir, producer_name="families")
        onnx.checker.check_model(model)
        return model
