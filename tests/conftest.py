"""What must be set before anything is imported: how the CUDA kernels run in tests (KRYPTON_TEST_CUDA).

not set    in Numba's simulator, on any machine: as Python, in several threads
compiled   compiled for the CPU, with the types that they have on a GPU (host_cuda.py)
1          on a GPU (see cuda_real_sizes.py)

Numba reads its variable when it is imported. The kernels of the CPU do not depend on it.
"""

import os

MODE = os.environ.get("KRYPTON_TEST_CUDA", "")
if MODE == "compiled":
    import host_cuda

    host_cuda.install()
elif MODE != "1":
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
