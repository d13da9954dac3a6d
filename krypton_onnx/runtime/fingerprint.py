"""What tells one rewritten model from another."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnx.numpy_helper

from krypton_onnx.rewriter import Plan

SMALL_WEIGHTS = 1 << 20  # elements; larger ones are told by their names and shapes, which takes no time


def fingerprint(model: onnx.ModelProto, plan: Plan) -> str:
    """Of a rewritten model: its plan, and all but its largest weights."""
    digest = hashlib.sha256(plan.to_json().encode())
    for tensor in sorted(model.graph.initializer, key=lambda tensor: tensor.name):
        digest.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}".encode())
        if np.prod(tensor.dims) <= SMALL_WEIGHTS and tensor.data_location != onnx.TensorProto.EXTERNAL:
            digest.update(onnx.numpy_helper.to_array(tensor).tobytes())
    return digest.hexdigest()[:32]
