"""What our kernels queue: counted, and timed by events launch by launch, while `Launches` or `Traffic` is active.

The package itself counts nothing; its functions are wrapped meanwhile, as stages.py does on the CPU.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from krypton_onnx.numba_kernels.cuda import products
from krypton_onnx.numba_kernels.cuda.compiled import DeviceKernel
from krypton_onnx.numba_kernels.cuda.target import SIMULATED, cuda

PRODUCTS = "products"


class _Wrapped:
    """Functions replaced while this is a context."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """owner.name becomes make(owner.name)."""
        function = getattr(owner, name)
        self._replaced.append((owner, name, function))
        setattr(owner, name, make(function))

    def restore(self) -> None:
        while self._replaced:
            setattr(*self._replaced.pop())


class Launches:
    """Launches of our kernels and of products, by name. stream: where they run; None: they are not timed.

    host: seconds until each returned.
    """

    def __init__(self, stream: Any = None) -> None:
        self._stream = stream
        self._wrapped = _Wrapped()
        self._events: defaultdict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.host: defaultdict[str, float] = defaultdict(float)

    def _around(self, name: str, call: Callable[[], Any]) -> Any:
        self.counts[name] += 1
        events = None
        if self._stream is not None:
            events = cuda.event(timing=True), cuda.event(timing=True)
            events[0].record(self._stream)
        began = time.perf_counter()
        result = call()
        self.host[name] += time.perf_counter() - began
        if events is not None:
            events[1].record(self._stream)
            self._events[name].append(events)
        return result

    def __enter__(self) -> Launches:
        def launch(function: Any) -> Any:
            def counted(kernel: DeviceKernel, count: int, stream: Any, *arguments: Any) -> None:
                if count:
                    self._around(
                        kernel.function.__name__.lstrip("_"), lambda: function(kernel, count, stream, *arguments)
                    )

            return counted

        def product(function: Any) -> Any:
            return lambda *arguments: self._around(PRODUCTS, lambda: function(*arguments))

        self._wrapped.replace(DeviceKernel, "__call__", launch)
        self._wrapped.replace(products if SIMULATED else products.Library, "_simulate" if SIMULATED else "multiply",
                              product)  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._wrapped.restore()

    def device(self) -> dict[str, float]:
        """Microseconds on the device by name: all its launches, each with the gap behind it. Waits for the device."""
        if self._stream is not None:
            self._stream.synchronize()
        return {
            name: 1e3 * sum(float(cuda.event_elapsed_time(start, end)) for start, end in pairs)
            for name, pairs in self._events.items()
        }


class Traffic:
    """What sessions of a device send over the bus. runs: of the incremental session; sent, fetched: bytes."""

    def __init__(self) -> None:
        self._wrapped = _Wrapped()
        self.runs, self.sent, self.fetched = 0, 0, 0

    def __enter__(self) -> Traffic:
        from krypton_onnx.runtime.cuda.placed_session import PlacedSession
        from krypton_onnx.runtime.cuda.target import Target

        def value(function: Any) -> Any:
            def counted(target: Target, array: Any) -> Any:
                self.sent += array.nbytes
                return function(target, array)

            return counted

        def run(function: Any) -> Any:
            def counted(
                session: PlacedSession, indices: Any, values: Any, others: Any, *rest: Any, **named: Any
            ) -> Any:
                self.runs += 1
                read = {entry.name for entry in session.session.get_inputs()}
                self.sent += sum(array.nbytes for name, array in others.items() if name in read)
                results = function(session, indices, values, others, *rest, **named)
                self.fetched += sum(array.nbytes for array in results)
                return results

            return counted

        self._wrapped.replace(Target, "value", value)
        self._wrapped.replace(PlacedSession, "run", run)
        return self

    def __exit__(self, *_: object) -> None:
        self._wrapped.restore()
