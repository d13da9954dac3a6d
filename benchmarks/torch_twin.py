"""A PyTorch module of an ONNX graph of a few operators: the demonstration's SqueezeNet as Captum and MONAI want it."""

from __future__ import annotations

from typing import Any

import onnx
import torch
from onnx import helper, numpy_helper


class TorchTwin(torch.nn.Module):
    """The layers are PyTorch's own, called one after another as the graph says. Raises ValueError for any other."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self._input, self._output = model.graph.input[0].name, model.graph.output[0].name
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.layers = torch.nn.ModuleList()
        self._steps: list[tuple[torch.nn.Module, list[str], str]] = []
        for node in model.graph.node:
            layer = _layer(node, weights)
            self.layers.append(layer)
            self._steps.append((layer, [name for name in node.input if name not in weights], node.output[0]))
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {self._input: x}
        for layer, inputs, output in self._steps:
            values[output] = layer(*(values[name] for name in inputs))
        return values[self._output]


class _Concat(torch.nn.Module):
    def forward(self, *branches: torch.Tensor) -> torch.Tensor:
        return torch.cat(branches, 1)


def _layer(node: onnx.NodeProto, weights: dict[str, Any]) -> torch.nn.Module:
    options = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    pads, strides = options.get("pads", [0] * 4), options.get("strides", [1, 1])
    if node.op_type == "Conv" and pads[:2] == pads[2:]:
        kernel, bias = (torch.from_numpy(weights[name].copy()) for name in node.input[1:3])
        outer, inner, *sides = kernel.shape
        layer = torch.nn.Conv2d(inner, outer, tuple(sides), tuple(strides), tuple(pads[:2]))
        layer.weight.data, layer.bias.data = kernel, bias
        return layer
    if node.op_type == "MaxPool" and not any(pads):
        return torch.nn.MaxPool2d(tuple(options["kernel_shape"]), tuple(strides))
    if node.op_type == "Concat" and options["axis"] == 1:
        return _Concat()
    simple = {
        "Relu": torch.nn.ReLU,
        "GlobalAveragePool": lambda: torch.nn.AdaptiveAvgPool2d(1),
        "Flatten": torch.nn.Flatten,
        "Softmax": lambda: torch.nn.Softmax(dim=1),
    }
    if node.op_type not in simple:
        raise ValueError(f"{node.op_type} node '{node.name}': this has no twin here")
    return simple[node.op_type]()
