"""ONNX in, rewritten ONNX out. Knows graphs; runs nothing.

    load -> normalize -> rewrite -> (split, by the runtime)
"""

from __future__ import annotations

import onnx

from krypton_onnx.rewriter.load import Source, load_model
from krypton_onnx.rewriter.normalize import normalize
from krypton_onnx.rewriter.plan import Plan, plan_of
from krypton_onnx.rewriter.rewrite import rewrite

__all__ = ["Plan", "Source", "load_model", "plan_of", "rewrite_model"]


def rewrite_model(
    source: Source, image_input: str | None = None, input_shape: tuple[int, ...] | None = None
) -> onnx.ModelProto:
    """The rewritten model of an original one; a model that is rewritten already is returned as it is.

    Raises ModelError where the model cannot be read, understood or made batch-dynamic.
    """
    model = load_model(source)
    if plan_of(model) is not None:
        return model
    return rewrite(normalize(model, image_input, input_shape))
