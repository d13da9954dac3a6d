"""What ONNX Runtime makes of constants: a few nodes on known values, run once. The model itself is not run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper

from krypton_onnx.errors import one_line
from krypton_onnx.forking import native
from krypton_onnx.rewriter.ort_sessions import open_session, quiet_options

_OPSET, _IR_VERSION = 18, 8


class EvaluationError(Exception):
    """ONNX Runtime cannot evaluate the nodes."""


def evaluated(nodes: Sequence[onnx.NodeProto], constants: Sequence[onnx.TensorProto], output: str) -> np.ndarray:
    """The value of `output`, from nodes of opset 18 without inputs. Raises EvaluationError with the reason."""
    graph = helper.make_graph(nodes, "constants", [], [onnx.ValueInfoProto(name=output)], initializer=constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    try:
        session = open_session(model, quiet_options("ORT_DISABLE_ALL"))
        with native():
            return np.asarray(session.run([output], {})[0])
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise EvaluationError(one_line(error)) from None
