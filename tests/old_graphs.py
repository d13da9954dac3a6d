"""The classifiers of 2018 that ship in the onnx package: opset 9, batch 1, as Caffe2's exporter wrote them.

IR version 3, so every initializer is listed as an input too. To keep the files light, the weights were replaced by
ConstantOfShape nodes of the value 0.02, with which every class gets the same score.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.backend.test
from naive import session_of
from onnx import helper, numpy_helper

FOLDER = Path(onnx.backend.test.__file__).parent / "data" / "light"
OLD_GRAPHS = sorted(path.stem for path in FOLDER.glob("*.onnx"))
LARGE = {"light_bvlc_alexnet", "light_vgg19", "light_zfnet512"}
"""With dense layers of 4096, up to half a gigabyte once the constants are folded."""
WIDE, NARROW = 4096, 64
LOGIT_SPREAD = 2.0


def old_graph(name: str) -> Path:
    return FOLDER / f"{name}.onnx"


def with_seeded_weights(model: onnx.ModelProto, image: np.ndarray, seed: int) -> onnx.ModelProto:
    """The model (changed) with random weights in place of the one constant, and dense layers of 64, not 4096.

    As old exporters did, each is an initializer and an input. Matrices and kernels by He; gains and variances near 1;
    biases, shifts and means near 0. The last layer is scaled so that the logits of `image` are of a common size.
    """
    rng = np.random.default_rng(seed)
    graph = model.graph
    shapes = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    users: dict[str, list[tuple[str, int]]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            while name in makers and makers[name].op_type in ("Unsqueeze", "Reshape"):
                name = makers[name].input[0]
            users.setdefault(name, []).append((node.op_type, index))
    kept, weights = [], {}
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            continue
        shape = [NARROW if side == WIDE else side for side in shapes[node.input[0]]]
        weights[node.output[0]] = _weight(shape, users[node.output[0]], rng)
    del graph.node[:]
    graph.node.extend(kept)
    last = next(node for node in reversed(kept) if node.op_type in ("Gemm", "Conv"))
    scaled = last.input[1]
    while scaled not in weights:  # Caffe2 reshapes one of them
        scaled = makers[scaled].input[0]
    for name, value in weights.items():
        graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape))
        graph.initializer.append(numpy_helper.from_array(value, name))
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    probe.graph.output.append(onnx.ValueInfoProto(name=last.output[0]))
    session = session_of(probe)
    feed = next(value.name for value in session.get_inputs() if len(value.shape) == 4)
    logits = session.run([last.output[0]], {feed: image})[0]
    spread = logits.mean(axis=tuple(range(2, logits.ndim))).std()
    tensor = next(tensor for tensor in graph.initializer if tensor.name == scaled)
    tensor.CopyFrom(numpy_helper.from_array(weights[scaled] * np.float32(LOGIT_SPREAD / spread), scaled))
    return model


def _weight(shape: list[int], users: list[tuple[str, int]], rng: np.random.Generator) -> np.ndarray:
    """float32 of this shape; users: the operators that read it, and as which of their inputs."""
    if len(shape) > 1:
        value = rng.standard_normal(shape, np.float32) * np.sqrt(2 / np.prod(shape[1:]))
    elif {("BatchNormalization", 1), ("BatchNormalization", 4), ("Mul", 1)} & set(users):
        value = rng.uniform(0.8, 1.2, shape)
    else:
        value = rng.normal(0, 0.1, shape)
    return value.astype(np.float32)
