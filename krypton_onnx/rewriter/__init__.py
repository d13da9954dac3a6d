"""ONNX in, rewritten ONNX out. Knows graphs; runs nothing.

    load -> normalize -> rewrite -> (split, by the runtime)
"""

from __future__ import annotations

import onnx

from krypton_onnx.errors import KryptonError, NotRewritable, one_line
from krypton_onnx.rewriter.load import Source, load_model
from krypton_onnx.rewriter.normalize import normalize
from krypton_onnx.rewriter.plan import Plan, plan_of
from krypton_onnx.rewriter.rewrite import rewrite
from krypton_onnx.rewriter.soundness import check_rewritable

__all__ = ["Plan", "Source", "load_model", "plan_of", "rewrite_model"]


def rewrite_model(
    source: Source,
    image_input: str | None = None,
    input_shape: tuple[int, ...] | None = None,
    frozen: bool = False,
) -> onnx.ModelProto:
    """The rewritten model of an original one; a model that is rewritten already is returned as it is.

    frozen : the approximate twin, which goes on behind operators that end the incremental part (operators/freezing.py).
    Raises ModelError where the model cannot be read or understood, NotRewritable where ONNX Runtime runs it and yet it
    has no incremental form.
    """
    model = load_model(source)
    if plan_of(model) is not None:
        return model
    check_rewritable(model)
    try:
        return rewrite(normalize(model, image_input, input_shape), frozen)
    except (KryptonError, MemoryError):
        raise
    except Exception as error:  # a defect of ours, which should cost speed and nothing more
        raise NotRewritable(
            f"rewriting it failed ({type(error).__name__}: {one_line(error)}), which is an error of krypton-onnx"
        ) from error
