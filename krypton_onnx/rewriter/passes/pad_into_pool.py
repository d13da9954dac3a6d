"""Fold a Pad into the MaxPool that alone reads it.

A MaxPool pads with minus infinity. Padding first with copies of the border (mode edge) gives the same maximum, as
long as every window that reaches a padded cell also covers the border cell it copies: pads < kernel, dilation 1.
Exporters of TensorFlow models write SAME pools so. (ONNX Runtime's BASIC level folds a zero Pad into a Conv.)
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs


def fold_pad_into_pool(graph: gs.Graph) -> bool:
    """True when the graph changed."""
    changed = False
    for pool in graph.nodes:
        if pool.op != "MaxPool" or len(pool.outputs) != 1 or not pool.inputs[0].inputs or pool.attrs.get("ceil_mode"):
            continue
        pad = pool.inputs[0].inputs[0]
        if pad.op != "Pad" or pad.attrs.get("mode", "constant") != "edge" or len(pad.outputs[0].outputs) != 1:
            continue
        if any(pad.outputs[0] is result for result in graph.outputs) or len(pad.inputs) > 3:
            continue
        kernel = list(pool.attrs["kernel_shape"])
        pads = pad.inputs[1]
        spatial = len(kernel)
        if not isinstance(pads, gs.Constant) or np.asarray(pads.values).size != 2 * (spatial + 2):
            continue
        begin, end = np.split(np.asarray(pads.values), 2)
        plain = all(dilation == 1 for dilation in pool.attrs.get("dilations", []))
        if begin[:2].any() or end[:2].any() or not plain or pool.attrs.get("auto_pad", "NOTSET") != "NOTSET":
            continue
        own = np.array(pool.attrs.get("pads", [0] * 2 * spatial))
        total = own + np.concatenate([begin[2:], end[2:]])
        if own.any() or (total < 0).any() or (total >= np.tile(kernel, 2)).any():
            continue
        pool.attrs["pads"] = [int(value) for value in total]
        pool.inputs[0] = pad.inputs[0]
        pad.outputs.clear()
        changed = True
    if changed:
        graph.cleanup()
    return changed
