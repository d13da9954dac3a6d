"""How the sessions of a rewritten model are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx
import onnxruntime as ort

from krypton_onnx.rewriter.ort_sessions import open_session
from krypton_onnx.runtime.providers import CPU, provider_name

if TYPE_CHECKING:
    from krypton_onnx.runtime.cuda.target import Target


@dataclass(frozen=True)
class SessionSettings:
    """How sessions are made. workers: batches that run at once, one thread each. target: the device where they run, if
    it is one that has kernels of ours."""

    providers: tuple = ("CPUExecutionProvider",)
    provider_options: tuple | None = None
    workers: int = 1
    strict: bool = False
    kernels: bool = True
    profile_prefix: str | None = None  # ONNX Runtime's own profile of the incremental session goes here
    target: Target | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether the first provider is the CPU's."""
        return provider_name(self.providers[0]) == CPU


def session_options(threads: int) -> ort.SessionOptions:
    """Spinning off: threads that wait for work must not take the cores of those that have some."""
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what is wrong is raised
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Of a quantized model (QDQ) ONNX Runtime would quantize weights again that are dequantized here: other values.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def open_part(model: onnx.ModelProto, options: ort.SessionOptions, settings: SessionSettings) -> ort.InferenceSession:
    """A session of a part of the rewritten model."""
    return open_session(model, options, settings.providers, settings.provider_options, "the rewritten model")
