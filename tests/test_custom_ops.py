"""runtime/custom_ops: registering kernels with ONNX Runtime, and what a kernel is handed.

The operators are made up for these tests: their function body adds 1 (or whatever is said), their kernel does
something else, so that a result tells which of the two ran.
"""

import gc
import subprocess
import sys
import threading
import warnings
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from krypton_onnx.errors import KryptonError
from krypton_onnx.numba_kernels.registry import Kernel
from krypton_onnx.runtime.custom_ops import library, register, registration, shim_path

LEVELS = [
    ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
]
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("ai.krypton", 1)]
X = np.arange(6, dtype=np.float32).reshape(2, 3)

needs_shim = pytest.mark.skipif(shim_path() is None, reason="installed without a C compiler")


def kernel(compute, op_type="Op", inputs=("float",), required=None, outputs=("float",), attributes=None):
    return Kernel(
        op_type=op_type,
        inputs=inputs,
        required=len(inputs) if required is None else required,
        outputs=outputs,
        attributes=attributes or {},
        make=lambda attributes, constants, strict: compute,
    )


def copy(inputs, allocate):
    allocate(0, inputs[0].shape)[...] = inputs[0]


def node(op_type="Op", inputs=("x",), outputs=("y",), name="a_node", overload="", **attributes):
    made = helper.make_node(op_type, inputs, outputs, name=name, domain="ai.krypton", **attributes)
    made.overload = overload
    return made


def adding(number, op_type="Op", overload=""):
    """A function body: adds a number."""
    constant = helper.make_node("Constant", [], ["c"], value_float=float(number))
    add = helper.make_node("Add", ["a", "c"], ["b"])
    function = helper.make_function("ai.krypton", op_type, ["a"], ["b"], [constant, add], OPSETS[:1])
    function.overload = overload
    return function


def model(nodes, functions=(), initializers=(), inputs=None, outputs=None):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "test",
        inputs or [value("x", TensorProto.FLOAT, ["N", "C"])],
        outputs or [value("y", TensorProto.FLOAT, None)],
        list(initializers),
    )
    return helper.make_model(graph, opset_imports=OPSETS, functions=list(functions), ir_version=10)


def options(*kernels, level=LEVELS[-1], strict=False):
    session_options = ort.SessionOptions()
    session_options.graph_optimization_level = level
    session_options.log_severity_level = 4
    if kernels:
        assert register(session_options, kernels, strict=strict)
    return session_options


def session(a_model, session_options):
    return ort.InferenceSession(
        a_model.SerializeToString(), session_options, providers=["CPUExecutionProvider"]
    )


def run(a_model, session_options, x=X):
    return session(a_model, session_options).run(None, {"x": x})


@needs_shim
class TestKernelOrFunctionBody:
    @pytest.mark.parametrize("level", LEVELS)
    def test_the_kernel_runs_where_registered_else_the_body(self, level):
        one = model([node()], [adding(1)])
        np.testing.assert_array_equal(run(one, options(level=level))[0], X + 1)
        np.testing.assert_array_equal(run(one, options(kernel(copy), level=level))[0], X)

    @pytest.mark.parametrize("level", LEVELS)
    def test_a_kernel_runs_inside_an_inlined_outer_function(self, level):
        double = helper.make_node("Add", ["t", "t"], ["b"])
        inner = node(inputs=["a"], outputs=["t"])
        outer = helper.make_function("ai.krypton", "Outer", ["a"], ["b"], [inner, double], OPSETS)
        nested = model([node("Outer")], [outer, adding(1)])
        np.testing.assert_array_equal(run(nested, options(level=level))[0], 2 * (X + 1))
        np.testing.assert_array_equal(run(nested, options(kernel(copy), level=level))[0], 2 * X)

    @pytest.mark.parametrize("level", LEVELS)
    def test_a_kernel_claims_every_overload(self, level):
        nodes = [node(outputs=["t"], overload="one"), node(inputs=["t"], overload="ten", name="b_node")]
        chain = model(nodes, [adding(1, overload="one"), adding(10, overload="ten")])
        np.testing.assert_array_equal(run(chain, options(level=level))[0], X + 11)
        np.testing.assert_array_equal(run(chain, options(kernel(copy), level=level))[0], X)

    def test_a_node_of_constants_may_be_folded(self):
        constant = numpy_helper.from_array(X, "w")
        nodes = [node(inputs=["w"], outputs=["t"]), helper.make_node("Add", ["t", "x"], ["y"])]
        np.testing.assert_array_equal(run(model(nodes, (), [constant]), options(kernel(copy)))[0], 2 * X)


@needs_shim
class TestMake:
    @staticmethod
    def made_with(a_node, attributes, inputs=("float",), initializers=(), strict=False):
        """The arguments that make() gets, and a copy of the constants' values."""
        calls = []

        def make(given, constants, strict):
            calls.append((dict(given), [None if c is None else c.copy() for c in constants], strict))
            return copy

        spec = replace(kernel(copy, inputs=inputs, attributes=attributes), make=make)
        session(model([a_node], (), initializers), options(spec, strict=strict))
        assert len(calls) == 1
        return calls[0]

    def test_attributes_of_each_kind(self):
        kinds = {"i": "int", "n": "ints", "e": "ints", "f": "float", "s": "string", "z": "string"}
        a_node = node(i=-(2**40), n=[3, -1, 2**40], f=0.1, s="Clip é", z="")
        a_node.attribute.append(helper.make_attribute("e", [], attr_type=onnx.AttributeProto.INTS))
        attributes, _, _ = self.made_with(a_node, kinds)
        assert attributes == {
            "i": -(2**40),
            "n": (3, -1, 2**40),
            "e": (),
            "f": float(np.float32(0.1)),
            "s": "Clip é",
            "z": "",
        }

    def test_attributes_that_the_node_lacks_are_left_out(self):
        kinds = {"i": "int", "n": "ints", "f": "float", "s": "string"}
        assert self.made_with(node(other=1), kinds)[0] == {}

    def test_an_attribute_of_another_type_is_an_error(self):
        with pytest.raises(Exception, match=r"Op node 'a_node': .*attribute i: "):
            self.made_with(node(i="text"), {"i": "int"})

    def test_constant_inputs_are_passed(self):
        weights = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
        counts = np.array([5, 6], np.int64)
        initializers = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(counts, "n")]
        _, constants, _ = self.made_with(
            node(inputs=["x", "w", "n"]), {}, ("float", "float", "int64"), initializers
        )
        assert constants[0] is None
        np.testing.assert_array_equal(constants[1], weights)
        np.testing.assert_array_equal(constants[2], counts)
        assert constants[2].dtype == np.int64

    @pytest.mark.parametrize("strict", [False, True])
    def test_strict_is_passed(self, strict):
        assert self.made_with(node(), {}, strict=strict)[2] is strict

    def test_what_make_returns_lives_as_long_as_the_session(self):
        compute = kernel(lambda inputs, allocate: copy(inputs, allocate)).make({}, (), False)
        alive = weakref.ref(compute)
        results = [compute]
        del compute
        spec = replace(kernel(copy), make=lambda attributes, constants, strict: results.pop())
        a_session = session(model([node()]), options(spec))
        gc.collect()
        assert alive() is not None
        del a_session
        gc.collect()
        assert alive() is None


@needs_shim
class TestInputsAndOutputs:
    @pytest.mark.parametrize(
        ("present", "inputs"),
        [("x", ["x"]), ("xx", ["x", "x"]), ("x-x", ["x", "", "x"]), ("xx-x", ["x", "x", "", "x"])],
    )
    def test_optional_inputs_may_be_absent(self, present, inputs):
        def compute(given, allocate):
            pattern = "".join("-" if value is None else "x" for value in given)
            assert pattern == present.ljust(4, "-")
            copy(given, allocate)

        spec = kernel(compute, inputs=("float",) * 4, required=1)
        # The Relu needs the type of t, which only the registration tells.
        nodes = [node(inputs=inputs, outputs=["t"]), helper.make_node("Relu", ["t"], ["y"])]
        np.testing.assert_array_equal(run(model(nodes), options(spec))[0], X)

    def test_a_required_input_may_not(self):
        with pytest.raises(Exception, match="a_node"):
            session(model([node()]), options(kernel(copy, inputs=("float", "float"))))

    def test_int64_and_scalars_and_several_outputs(self):
        def compute(inputs, allocate):
            values, shape, scale = inputs
            assert (shape.dtype, scale.shape, values.dtype) == (np.int64, (), np.float32)
            assert all(value.flags.c_contiguous for value in inputs)
            allocate(1, (len(shape),))[...] = shape + 1
            allocate(0, tuple(shape))[...] = values.reshape(shape) * scale

        value = helper.make_tensor_value_info
        outputs = [value("y", TensorProto.FLOAT, None), value("z", TensorProto.INT64, None)]
        initializers = [
            numpy_helper.from_array(np.array([3, 1, 2]), "shape"),
            numpy_helper.from_array(np.array(2, np.float32), "scale"),
        ]
        spec = kernel(compute, inputs=("float", "int64", "float"), outputs=("float", "int64"))
        a_node = node(inputs=["x", "shape", "scale"], outputs=["y", "z"])
        y, z = run(model([a_node], (), initializers, outputs=outputs), options(spec))
        np.testing.assert_array_equal(y, 2 * X.reshape(3, 1, 2))
        np.testing.assert_array_equal(z, [4, 2, 3])

    def test_empty_tensors(self):
        empty = np.zeros((0, 3), np.float32)
        assert run(model([node()]), options(kernel(copy)), empty)[0].shape == (0, 3)

    def test_zero_copy(self):
        pointers = []

        def compute(inputs, allocate):
            output = allocate(0, inputs[0].shape)
            pointers.extend([inputs[0].ctypes.data, output.ctypes.data])
            output[...] = inputs[0] + 5

        a_session = session(model([node()]), options(kernel(compute)))
        output = np.zeros_like(X)
        binding = a_session.io_binding()
        binding.bind_input("x", "cpu", 0, np.float32, X.shape, X.ctypes.data)
        binding.bind_output("y", "cpu", 0, np.float32, output.shape, output.ctypes.data)
        a_session.run_with_iobinding(binding)
        assert pointers == [X.ctypes.data, output.ctypes.data]
        np.testing.assert_array_equal(output, X + 5)

    def test_two_threads_at_once(self):
        """Both are inside the kernel at the same time, each with its own inputs."""
        together = threading.Barrier(2, timeout=10)

        def compute(inputs, allocate):
            together.wait()
            output = allocate(0, inputs[0].shape)
            together.wait()
            output[...] = inputs[0] * 2

        a_session = session(model([node()]), options(kernel(compute)))
        results = {}

        def work(rows):
            for _ in range(20):
                x = np.full((rows, 3), rows, np.float32)
                results[rows] = a_session.run(None, {"x": x})[0]

        threads = [threading.Thread(target=work, args=(rows,)) for rows in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for rows in (1, 2):
            np.testing.assert_array_equal(results[rows], np.full((rows, 3), 2 * rows))


@needs_shim
class TestErrors:
    @staticmethod
    def fail(*_):
        raise LookupError("no such thing é")

    def test_when_running(self):
        a_session = session(model([node()]), options(kernel(self.fail)))
        with pytest.raises(Exception, match=r"Name:'a_node' .*LookupError: no such thing é"):
            a_session.run(None, {"x": X})

    def test_when_creating_the_session(self):
        with pytest.raises(Exception, match="Op node 'a_node': LookupError: no such thing é"):
            session(model([node()]), options(replace(kernel(copy), make=self.fail)))

    def test_an_output_that_does_not_exist(self):
        a_session = session(model([node()]), options(kernel(lambda _, allocate: allocate(1, (2,)))))
        with pytest.raises(Exception, match=r"Name:'a_node' .*IndexError: .*no output 1"):
            a_session.run(None, {"x": X})

    def test_a_bound_output_of_another_shape(self):
        a_session = session(model([node()]), options(kernel(copy)))
        output = np.zeros((5, 5), np.float32)
        binding = a_session.io_binding()
        binding.bind_cpu_input("x", X)
        binding.bind_output("y", "cpu", 0, np.float32, output.shape, output.ctypes.data)
        with pytest.raises(Exception, match=r"(?s)Name:'a_node' .*\{5,5\}.*\{2,3\}"):
            a_session.run_with_iobinding(binding)


@needs_shim
class TestRegistration:
    def test_twice_is_harmless(self):
        spec, other = kernel(copy), kernel(copy, "Other")
        session_options = options(spec, other)
        assert register(session_options, [spec, other])
        assert register(session_options, [other])
        np.testing.assert_array_equal(run(model([node()]), session_options)[0], X)

    def test_other_kernels_on_the_same_options_are_refused(self):
        spec = kernel(copy)
        session_options = options(spec)
        for kernels, strict in [([spec], True), ([spec, kernel(copy, "Other")], False)]:
            with pytest.raises(KryptonError, match="use new SessionOptions"):
                register(session_options, kernels, strict=strict)

    def test_strict_and_not_side_by_side(self):
        seen = []

        def make(attributes, constants, strict):
            seen.append(strict)
            return copy

        spec = replace(kernel(copy), make=make)
        for strict in (False, True, False):
            np.testing.assert_array_equal(run(model([node()]), options(spec, strict=strict))[0], X)
        assert seen == [False, True, False]

    def test_a_session_may_outlive_everything_at_exit(self):
        code = """
import builtins, sys
sys.path[:0] = sys.argv[1:]
import test_custom_ops as t
builtins.kept = t.session(t.model([t.node()]), t.options(t.kernel(t.copy)))
builtins.kept.run(None, {"x": t.X})
"""
        folder = str(Path(__file__).parent)
        done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr and "ignored" not in done.stderr


class TestWithoutShim:
    @pytest.mark.parametrize("broken", [False, True])
    def test_says_so_once_and_the_bodies_run(self, monkeypatch, tmp_path, broken):
        shim = None
        if broken:
            shim = tmp_path / "_shim.so"
            shim.write_bytes(b"not a library")
        monkeypatch.setattr(library, "shim_path", lambda: shim)
        monkeypatch.setattr(registration, "_warned", False)
        session_options = ort.SessionOptions()
        with pytest.warns(RuntimeWarning, match="without its native kernels.*install") as caught:
            assert register(session_options, [kernel(copy)]) is False
        assert len(caught) == 1 and "\n" not in str(caught[0].message)
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert register(ort.SessionOptions(), [kernel(copy)]) is False
        np.testing.assert_array_equal(run(model([node()], [adding(1)]), session_options)[0], X + 1)

    def test_an_old_onnxruntime_counts_as_without(self, monkeypatch):
        if shim_path() is None:
            pytest.skip("installed without a C compiler")
        monkeypatch.setattr(registration, "_api", lambda api_base: None)
        monkeypatch.setattr(registration, "_warned", False)
        with pytest.warns(RuntimeWarning, match="install onnxruntime 1.24 or later"):
            assert register(ort.SessionOptions(), [kernel(copy)]) is False
