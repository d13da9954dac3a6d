"""What a kernel declares about itself, so that the runtime can register it without knowing any operator."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Allocate = Callable[[int, tuple[int, ...]], np.ndarray]
"""allocate(i, shape) returns output i, uninitialized, to write into."""

Compute = Callable[[Sequence[np.ndarray | None], Allocate], None]
"""compute(inputs, allocate): inputs are zero-copy views, None where an optional input is absent."""


@dataclass(frozen=True)
class Kernel:
    """One operator of the domain ai.krypton.

    op_type     name of the operator
    inputs      element type of each input, "float" | "int64"
    required    the first `required` inputs must be present, the others are optional
    outputs     element type of each output
    attributes  name -> "int" | "ints" | "float" | "string"
    make        make(attributes, constants, strict) -> compute, called once a node when a session is created:
                weights are transformed here. constants[i] is input i where it is a constant initializer, else
                None. strict: no algorithm that trades accuracy for speed.
    consumed    inputs of whose values compute() needs only the shape once make() had them as constants
    """

    op_type: str
    inputs: tuple[str, ...]
    required: int
    outputs: tuple[str, ...]
    attributes: Mapping[str, str]
    make: Callable[[Mapping[str, object], Sequence[np.ndarray | None], bool], Compute]
    consumed: tuple[int, ...] = ()
