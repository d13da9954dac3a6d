"""The frozen twin of a rewritten model, from the rewritten model alone: a file need not hold both."""

from __future__ import annotations

import onnx

from krypton_onnx.rewriter import plan_of, rewrite_model
from krypton_onnx.runtime.split import full_model


def frozen_twin(rewritten: onnx.ModelProto) -> onnx.ModelProto:
    """The original model, cut out of a rewritten one, rewritten again (rewriter/operators/freezing.py).

    Another file than the exact one: it has other views, regions and a plan of its own.
    """
    plan = plan_of(rewritten)
    assert plan is not None
    return rewrite_model(full_model(rewritten, plan), plan.image_input, frozen=True)
