"""What onnxruntime.InferenceSession has beside `run`, so that an OcclusionSession can stand in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from krypton_onnx.forking import native


class StandIn:
    """Each method does what that of onnxruntime.InferenceSession does, of the original model.

    Of a rewritten model the original one is inside, and it takes any batch.
    """

    def _inference_session(self) -> ort.InferenceSession:
        raise NotImplementedError

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Mapping[str, np.ndarray] | None = None,
        run_options: ort.RunOptions | None = None,
        *,
        input_feed: Mapping[str, np.ndarray] | None = None,
    ) -> list[np.ndarray]:
        """The original model, unchanged. input_feed : ONNX Runtime's name of `feeds`."""
        given = input_feed if feeds is None else feeds
        if given is None or (feeds is not None and input_feed is not None):
            raise TypeError("run takes the inputs once: run(output_names, {name: array})")
        session = self._inference_session()
        with native():
            return session.run(output_names, dict(given), run_options)

    def run_async(self, output_names: Sequence[str] | None, input_feed: Mapping[str, np.ndarray], *more: Any) -> None:
        """As `run`, and hands the outputs to a callback."""
        self._inference_session().run_async(output_names, dict(input_feed), *more)

    def io_binding(self) -> ort.IOBinding:
        """Inputs and outputs that stay where they are, for `run_with_iobinding`."""
        return self._inference_session().io_binding()

    def run_with_iobinding(self, iobinding: ort.IOBinding, run_options: ort.RunOptions | None = None) -> None:
        """As `run`, from and into what was bound."""
        session = self._inference_session()
        with native():
            session.run_with_iobinding(iobinding, run_options)

    def get_inputs(self) -> Sequence[ort.NodeArg]:
        """The inputs of the original model."""
        return self._inference_session().get_inputs()

    def get_outputs(self) -> Sequence[ort.NodeArg]:
        """The outputs of the original model."""
        return self._inference_session().get_outputs()

    def get_overridable_initializers(self) -> Sequence[ort.NodeArg]:
        """The initializers that are inputs too."""
        return self._inference_session().get_overridable_initializers()

    def get_modelmeta(self) -> ort.ModelMetadata:
        """The metadata of the model."""
        return self._inference_session().get_modelmeta()

    def get_providers(self) -> Sequence[str]:
        """The execution providers in use, best first."""
        return self._inference_session().get_providers()

    def get_provider_options(self) -> Mapping[str, Mapping[str, str]]:
        """The options of each provider."""
        return self._inference_session().get_provider_options()

    def get_session_options(self) -> ort.SessionOptions:
        """The options of the session."""
        return self._inference_session().get_session_options()

    def get_profiling_start_time_ns(self) -> int:
        """Nanoseconds at which profiling began."""
        return self._inference_session().get_profiling_start_time_ns()

    def end_profiling(self) -> str:
        """Ends profiling; the name of the file that holds it."""
        return self._inference_session().end_profiling()
