"""CUDA kernels of the ai.krypton operators: what their CPU twins do, on an NVIDIA GPU, written in Numba.

CUDA_KERNELS lists what a session of the CUDA provider registers: every operator but PlaceRegions, whose few numbers
decide shapes and are computed on the host. A module of each family stands beside its CPU twin's and shares its
declaration. Importing this package imports numba.cuda, needs no GPU, and compiles nothing.
"""

from ..registry import Kernel
from .affine import CHANNEL_AFFINE
from .concat import INCREMENTAL_CONCAT
from .convolution import INCREMENTAL_CONV, POINTWISE_CONV
from .global_pool import INCREMENTAL_GLOBAL_AVERAGE_POOL
from .pooling import INCREMENTAL_AVERAGE_POOL, INCREMENTAL_MAX_POOL
from .resampling import INCREMENTAL_RESAMPLE, REMAP
from .window import WINDOW

CUDA_KERNELS: tuple[Kernel, ...] = (
    WINDOW,
    REMAP,
    INCREMENTAL_RESAMPLE,
    *CHANNEL_AFFINE,
    *INCREMENTAL_CONCAT,
    *INCREMENTAL_CONV,
    *POINTWISE_CONV,
    INCREMENTAL_MAX_POOL,
    INCREMENTAL_AVERAGE_POOL,
    INCREMENTAL_GLOBAL_AVERAGE_POOL,
)

__all__ = ["CUDA_KERNELS"]
