"""The entries of a model's metadata: names and texts, which every ONNX Runtime keeps and none looks at."""

from __future__ import annotations

import onnx


def entry(model: onnx.ModelProto, key: str) -> str | None:
    """The text under a name; None where there is none."""
    return next((one.value for one in model.metadata_props if one.key == key), None)


def set_entry(model: onnx.ModelProto, key: str, text: str) -> None:
    """Put a text under a name, in place of any other."""
    for index in reversed(range(len(model.metadata_props))):
        if model.metadata_props[index].key == key:
            del model.metadata_props[index]
    model.metadata_props.add(key=key, value=text)
