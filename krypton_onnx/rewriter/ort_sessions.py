"""Opening a model in ONNX Runtime: every session is opened here. Also of models that are too large for one message."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

from krypton_onnx.errors import ModelError, one_line
from krypton_onnx.forking import native, reset_in_children
from krypton_onnx.rewriter import weights

CPU = ("CPUExecutionProvider",)


def open_session(
    model: onnx.ModelProto | bytes | str,
    options: ort.SessionOptions,
    providers: Sequence[Any] = CPU,
    provider_options: Sequence[dict] | None = None,
    whose: str = "the model",
    without: Sequence[str] = (),
) -> ort.InferenceSession:
    """A session of a model, or of the file at a path. `options` are changed where the model is large: give new ones.

    without : names of ONNX Runtime's optimizers to leave out.

    Raises ModelError, whose message calls the model `whose`, where ONNX Runtime cannot load it.
    """
    values: dict[str, np.ndarray] = {}
    if isinstance(model, onnx.ModelProto):
        if weights.is_large(model):
            model, apart = weights.without_weights(model)
            values = {tensor.name: weights.array_of(tensor) for tensor in apart}
            for tensor in apart:
                weights.refer(model, tensor, {"location": "in memory"})
        model = weights.as_bytes(model)
    return _opened(model, options, providers, provider_options, whose, values, without)


def open_with(
    model: onnx.ModelProto, options: ort.SessionOptions, providers: Sequence[Any], provider_options: Any
) -> ort.InferenceSession:
    """As open_session, with options that are somebody else's and must stay as they are.

    A large model goes through a temporary folder, which is gone when the session is there.
    """
    if not weights.is_large(model):
        return open_session(model, options, providers, provider_options)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        try:
            weights.save(model, path, "weights")
        except OSError as error:
            raise ModelError(f"the model does not fit into the temporary folder ({error}): set TMPDIR") from error
        return open_session(path, options, providers, provider_options)


def open_for_types(model: onnx.ModelProto, apart: Iterable[onnx.TensorProto]) -> ort.InferenceSession:
    """A session that tells the types of its inputs and outputs and must not run. Raises as open_session.

    model : lacks the initializers that are given `apart`, whose values do not matter; they are declared in it.
    """
    options = quiet_options("ORT_DISABLE_ALL")
    options.add_session_config_entry("session.disable_prepacking", "1")
    values = {}
    for tensor in apart:
        values[tensor.name] = np.zeros(tuple(tensor.dims), onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
        weights.refer(model, tensor, {"location": "in memory"})
    return _opened(weights.as_bytes(model), options, CPU, None, "the model", values)


def quiet_options(level: str) -> ort.SessionOptions:
    """For a session that never runs: no messages, no threads."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    return options


def _opened(
    source: bytes | str,
    options: ort.SessionOptions,
    providers: Sequence[Any],
    provider_options: Sequence[dict] | None,
    whose: str,
    values: dict[str, np.ndarray],
    without: Sequence[str] = (),
) -> ort.InferenceSession:
    try:
        if values:
            tensors = [ort.OrtValue.ortvalue_from_numpy(value) for value in values.values()]
            options.add_external_initializers(list(values), tensors)
        with native():
            session = ort.InferenceSession(
                source, options, providers=list(providers), provider_options=provider_options,
                disabled_optimizers=list(without),
                enable_fallback=False,  # it prints to standard output and tries again with the same provider
            )  # fmt: skip
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"ONNX Runtime cannot load {whose}: {one_line(error)}") from error
    running = session.get_providers()
    for provider in providers:  # one whose libraries are missing is left out, with no more than a line in the log
        name = provider if isinstance(provider, str) else provider[0]
        if name not in running:
            raise ModelError(
                f"provider '{name}' does not start here, as ONNX Runtime's log says (are its libraries there, of the "
                f"versions that this onnxruntime needs?); it would run on: {', '.join(running)}"
            )
    return session


def _without_telemetry() -> None:
    """In a forked child: what ONNX Runtime's official builds report is sent by a thread that is not there any more."""
    getattr(ort, "disable_telemetry_events", lambda: None)()


reset_in_children(_without_telemetry)
