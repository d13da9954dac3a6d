"""Registering kernels with ONNX Runtime itself, on a SessionOptions."""

import ctypes
import threading
import warnings
from collections.abc import Sequence
from ctypes import addressof, byref, c_void_p
from functools import cache
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from krypton_onnx.errors import KryptonError
from krypton_onnx.forking import native, reset_in_children
from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops import library
from krypton_onnx.runtime.custom_ops.custom_op import build_custom_op
from krypton_onnx.runtime.custom_ops.device import Device
from krypton_onnx.runtime.custom_ops.ort_api import OrtApi, OrtCustomOp, RegisterCallback

if TYPE_CHECKING:
    import onnxruntime as ort

DOMAIN = b"ai.krypton"

# The ids of a kernel and of the device that it runs on (0: the CPU), strict; the callbacks that are built for it keep
# both alive.
_Key = tuple[int, int, bool]
_KernelSet = frozenset[_Key]

_lock = threading.Lock()
# What is built for ONNX Runtime is built once a process and never freed: sessions hold plain pointers to it.
_custom_ops: dict[_Key, OrtCustomOp] = {}
_domains: dict[_KernelSet, int] = {}
# A SessionOptions takes a domain only once: with a second one every session fails to load.
_registered: "WeakKeyDictionary[ort.SessionOptions, _KernelSet]" = WeakKeyDictionary()
_warned = False


def register(
    session_options: "ort.SessionOptions",
    kernels: Sequence[Kernel],
    strict: bool = False,
    device: Device | None = None,
) -> bool:
    """Registers kernels for every session that is created with session_options. Those of the device's provider run on
    `device`, the others on the CPU.

    Returns False, and warns once a process, where that is not possible (no C shim, an old ONNX Runtime);
    such sessions run on the operators' function bodies. Repeating a registration changes nothing. Safe from
    several threads. Raises KryptonError where session_options already has other kernels, or these with
    another strict.
    """
    path = library.shim_path()
    if path is None:
        return _unavailable("it was installed without a C compiler; install one, then krypton-onnx again")
    wanted = frozenset(_key(kernel, strict, device) for kernel in kernels)
    with _lock:
        present = _registered.get(session_options)
        if present is not None:
            if wanted <= present:
                return True
            raise KryptonError(
                "these SessionOptions already have krypton-onnx kernels, of another kind (strict or not, of another "
                "device, or another set): use new SessionOptions"
            )
        try:
            shim = library.load_shim(path)
        except OSError as error:
            return _unavailable(f"its native library does not load ({error}); install krypton-onnx again")
        if not _load(shim, session_options, str(path), kernels, strict, device, wanted):
            return _unavailable("this onnxruntime is too old; install onnxruntime 1.24 or later")
        _registered[session_options] = wanted
        return True


def _load(
    shim: ctypes.CDLL,
    session_options: "ort.SessionOptions",
    path: str,
    kernels: Sequence[Kernel],
    strict: bool,
    device: Device | None,
    key: _KernelSet,
) -> bool:
    """Has ONNX Runtime load the shim, which calls back with what it takes to add custom operators. False
    where this ONNX Runtime is too old."""
    supported = False
    raised: list[BaseException] = []

    def fill(options: int, api_base: int) -> None:
        nonlocal supported
        try:
            api = _api(api_base)
            if api is not None:
                supported = True
                api.check(api.AddCustomOpDomain(options, _domain(api, kernels, strict, device, key)))
        except BaseException as error:  # cannot pass through C
            raised.append(error)

    callback = RegisterCallback(fill)
    slot = c_void_p.in_dll(shim, "slot")
    slot.value = ctypes.cast(callback, c_void_p).value
    try:
        with native():
            session_options.register_custom_ops_library(path)
    finally:
        slot.value = None
    if raised:
        raise raised[0]
    return supported


@cache
def _api(api_base: int) -> OrtApi | None:
    return OrtApi.from_base(api_base)


def _domain(
    api: OrtApi, kernels: Sequence[Kernel], strict: bool, device: Device | None, key: _KernelSet
) -> int:
    """The address of an OrtCustomOpDomain with these kernels."""
    if key not in _domains:
        domain = c_void_p()
        api.check(api.CreateCustomOpDomain(DOMAIN, byref(domain)))
        for kernel in kernels:
            own = _key(kernel, strict, device)
            custom_op = _custom_ops.get(own)
            if custom_op is None:
                custom_op = _custom_ops[own] = build_custom_op(kernel, strict, api, _runs_on(kernel, device))
            api.check(api.CustomOpDomain_Add(domain, addressof(custom_op)))
        assert domain.value is not None
        _domains[key] = domain.value
    return _domains[key]


def _runs_on(kernel: Kernel, device: Device | None) -> Device | None:
    return device if device is not None and kernel.provider == device.provider else None


def _key(kernel: Kernel, strict: bool, device: Device | None) -> _Key:
    own = _runs_on(kernel, device)
    return id(kernel), 0 if own is None else id(own), strict


def _unavailable(reason: str) -> bool:
    """Says once why there are no kernels. Returns False."""
    global _warned
    if not _warned:
        _warned = True
        message = f"krypton-onnx runs without its native kernels, correct but slower: {reason}"
        warnings.warn(message, RuntimeWarning, stacklevel=3)
    return False


def _new_lock() -> None:
    global _lock
    _lock = threading.Lock()


reset_in_children(_new_lock)
