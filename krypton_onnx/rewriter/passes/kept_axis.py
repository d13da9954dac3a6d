"""Pick one channel and keep its axis.

Case: Gather(x, constant scalar index, axis) read only by Unsqueeze of that axis -> Gather(x, [index], axis), which has
the same values and shape, and stays a picture. (torch writes x[:, i].unsqueeze(1) so.)
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs


def keep_gathered_axis(graph: gs.Graph) -> bool:
    """True when the graph changed."""
    changed = False
    for node in graph.nodes:
        if node.op != "Gather" or not isinstance(node.inputs[1], gs.Constant) or not node.outputs:
            continue
        output, axis = node.outputs[0], node.attrs.get("axis", 0)
        index = np.asarray(node.inputs[1].values)
        if index.ndim or len(output.outputs) != 1 or any(output is result for result in graph.outputs):
            continue
        reader = output.outputs[0]
        axes = reader.inputs[1] if reader.op == "Unsqueeze" and len(reader.inputs) > 1 else None
        if axis < 0 or not isinstance(axes, gs.Constant) or np.asarray(axes.values).ravel().tolist() != [axis]:
            continue
        node.inputs[1] = gs.Constant(f"{node.name or output.name}/index", index.reshape(1))
        result = reader.outputs[0]
        reader.outputs.clear()
        node.outputs = [result]
        changed = True
    if changed:
        graph.cleanup()
    return changed
