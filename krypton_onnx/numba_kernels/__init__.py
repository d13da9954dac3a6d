"""CPU kernels of the ai.krypton operators: functions on arrays, which know no graph and no session.

CPU_KERNELS lists what a session may register. Nothing compiles at import: each kernel does on its first call, and
loads from Numba's cache afterwards. The kernels of GPUs are in cuda/, which nothing here imports.
"""

from .affine import CHANNEL_AFFINE
from .concat import INCREMENTAL_CONCAT
from .convolution import INCREMENTAL_CONV, POINTWISE_CONV
from .global_pool import INCREMENTAL_GLOBAL_AVERAGE_POOL
from .pooling import INCREMENTAL_AVERAGE_POOL, INCREMENTAL_MAX_POOL
from .regions import PLACE_REGIONS
from .registry import Kernel
from .resampling import INCREMENTAL_RESAMPLE, REMAP
from .window import WINDOW

CPU_KERNELS: tuple[Kernel, ...] = (
    PLACE_REGIONS,
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

__all__ = ["CPU_KERNELS", "Kernel"]
