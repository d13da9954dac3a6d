"""What ONNX Runtime raises while a model runs, in words of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from krypton_onnx.errors import KryptonError, ModelError, one_line


@contextmanager
def model_runs() -> Iterator[None]:
    """Around a run of a model and what its inputs and outputs need. Raises ModelError where it fails.

    Loading a model does not try everything: a wrong attribute may show only now.
    """
    try:
        yield
    except KryptonError:
        raise
    except MemoryError as error:
        raise ModelError(f"the model needs more memory than there is: {one_line(error)}") from error
    except Exception as error:  # ONNX Runtime's exceptions share no base class
        raise ModelError(f"the model fails when it runs: {one_line(error)}") from error
