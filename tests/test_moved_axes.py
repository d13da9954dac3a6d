"""Passes for what Keras' exporter writes: chains that move whole axes, and dense layers on cells; and near misses."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from graph_builder import Graph
from pass_models import check, finish, graph, refuse

from krypton_onnx.rewriter.passes.dense_cells import multiply_cells
from krypton_onnx.rewriter.passes.moved_axes import name_moved_axes

CHANNELS, HEIGHT, WIDTH = 4, 11, 9  # of an activation


def activation(g: Graph, last: bool = True) -> str:
    """float32 (N, 11, 9, 4), or with channels first."""
    x = g.conv("x", CHANNELS, 3, pads=1)
    return g.node("Transpose", x, perm=[0, 2, 3, 1]) if last else x


def integers(g: Graph, *values: int) -> str:
    return g.initializer(list(values), np.int64)


def reshape(g: Graph, x: str, *shape: int) -> str:
    return g.node("Reshape", x, integers(g, *shape))


def finished(g: Graph, x: str) -> onnx.ModelProto:
    g.node("Relu", x, name="y")
    return finish(g, "y")


def shuffle(g: Graph, x: str) -> str:
    x = reshape(g, x, -1, HEIGHT, WIDTH, 2, 2)
    return reshape(g, g.node("Transpose", x, perm=[0, 1, 2, 4, 3]), -1, HEIGHT, WIDTH, CHANNELS)


def shuffle_by_shape(g: Graph, x: str) -> str:
    """The batch is read from the tensor."""
    batch = g.node("Slice", g.node("Shape", x), integers(g, 0), integers(g, 1))
    x = g.node("Reshape", x, g.node("Concat", batch, integers(g, HEIGHT, WIDTH, 2, 2), axis=0))
    return reshape(g, g.node("Transpose", x, perm=[0, 1, 2, 4, 3]), 0, HEIGHT, WIDTH, CHANNELS)


def repeat(axis: int, times: int) -> Callable[[Graph, str], str]:
    def write(g: Graph, x: str) -> str:
        sizes = [HEIGHT, WIDTH, CHANNELS]
        tiles = [1, 1, 1, 1, 1]
        tiles[axis + 1], sizes[axis - 1] = times, sizes[axis - 1] * times
        x = g.node("Tile", g.node("Unsqueeze", x, integers(g, axis + 1)), integers(g, *tiles))
        return reshape(g, x, -1, *sizes)

    return write


def tile(g: Graph, x: str) -> str:
    """Whole rows again, not each twice."""
    x = g.node("Tile", g.node("Unsqueeze", x, integers(g, 1)), integers(g, 1, 2, 1, 1, 1))
    return reshape(g, x, -1, 2 * HEIGHT, WIDTH, CHANNELS)


@pytest.mark.parametrize("write, operators", [
    (shuffle, {"Gather": 1, "Resize": 0}), (shuffle_by_shape, {"Gather": 1, "Shape": 0}),
    (repeat(1, 2), {"Resize": 1, "Gather": 0}), (repeat(2, 3), {"Resize": 1, "Gather": 0}),
    (repeat(3, 2), {"Resize": 1, "Gather": 0}), (tile, {"Gather": 1, "Resize": 0}),
], ids=["shuffle", "shuffle by shape", "rows", "columns", "channels", "tile"])  # fmt: skip
def test_chains_that_move_axes(write, operators) -> None:
    g = graph()
    model = finished(g, write(g, activation(g)))
    check(model, name_moved_axes, {"Reshape": 0, "Tile": 0, "Unsqueeze": 0, "Transpose": 1, **operators})


@pytest.mark.parametrize("first", [-1, 0])
def test_a_reshape_to_the_same_shape_is_an_identity(first: int) -> None:
    g = graph()
    model = finished(g, reshape(g, activation(g), first, HEIGHT, WIDTH, CHANNELS))
    check(model, name_moved_axes, {"Reshape": 0, "Identity": 1})


def test_a_reshape_of_one_channel_is_a_transpose() -> None:
    g = graph()
    x = g.node("ReduceMean", activation(g, last=False), integers(g, 1))
    model = finished(g, reshape(g, x, -1, HEIGHT, WIDTH, 1))
    check(model, name_moved_axes, {"Reshape": 0, "Transpose": 1})


@pytest.mark.parametrize("shape", [(-1, WIDTH, HEIGHT, CHANNELS), (-1, HEIGHT, CHANNELS, WIDTH),
                                   (-1, HEIGHT * CHANNELS, WIDTH, 1)], ids=str)  # fmt: skip
def test_a_reshape_that_mixes_axes_stays(shape) -> None:
    g = graph()
    refuse(finished(g, reshape(g, activation(g), *shape)), name_moved_axes)


def test_a_chain_that_mixes_images_stays() -> None:
    g = graph(batch=2)
    x = reshape(g, activation(g), 1, 2 * HEIGHT, WIDTH, CHANNELS)
    refuse(finished(g, reshape(g, x, 2, HEIGHT, WIDTH, CHANNELS)), name_moved_axes)


def test_images_that_trade_places_stay() -> None:
    g = graph(batch=2)
    x = reshape(g, activation(g), HEIGHT, 2, WIDTH, CHANNELS)
    refuse(finished(g, g.node("Transpose", x, perm=[1, 0, 2, 3])), name_moved_axes)


def test_a_pixel_shuffle_is_no_matter_of_axes() -> None:
    g = graph()
    x = reshape(g, activation(g), -1, HEIGHT, WIDTH, 2, 2)
    x = reshape(g, g.node("Transpose", x, perm=[0, 1, 3, 2, 4]), -1, 2 * HEIGHT, WIDTH, 2)
    refuse(finished(g, x), name_moved_axes)


def test_a_chain_that_is_read_midway_stays() -> None:
    g = graph()
    x = reshape(g, activation(g), -1, HEIGHT, WIDTH, 2, 2)
    other = g.node("ReduceSum", x, integers(g, 3), keepdims=0)
    x = reshape(g, g.node("Transpose", x, perm=[0, 1, 2, 4, 3]), -1, HEIGHT, WIDTH, CHANNELS)
    refuse(finished(g, g.node("Concat", x, other, axis=3)), name_moved_axes)


def rows(g: Graph, x: str, channels: int, bias: bool = False, first: int = -1) -> str:
    x = g.node("MatMul", reshape(g, x, first, CHANNELS), g.weight(CHANNELS, channels, fan_in=CHANNELS))
    return g.node("Add", x, g.initializer(np.arange(channels))) if bias else x


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch", ["N", 1])
def test_dense_layers_on_cells(bias: bool, batch: int | str) -> None:
    g = graph(batch=batch)
    first, back = (-1, -1) if batch == "N" else (HEIGHT * WIDTH, 1)
    x = rows(g, activation(g), 5, bias, first)
    check(finished(g, reshape(g, x, back, HEIGHT, WIDTH, 5)), multiply_cells, {"Reshape": 0, "MatMul": 1})


def test_dense_layers_whose_cells_are_laid_out_anew_stay() -> None:
    g = graph()
    x = rows(g, activation(g), 5)
    refuse(finished(g, reshape(g, x, -1, WIDTH, HEIGHT, 5)), multiply_cells)


def test_rows_of_something_else_than_channels_stay() -> None:
    """Channels first: a row of four is part of a column."""
    g = graph(frame=(11, 8))
    x = rows(g, activation(g, last=False), 4)
    refuse(finished(g, reshape(g, x, -1, CHANNELS, 11, 8)), multiply_cells)


def test_a_matrix_of_the_image_stays() -> None:
    g = graph()
    x = activation(g)
    weights = g.node("Slice", reshape(g, x, -1, CHANNELS), integers(g, 0), integers(g, CHANNELS))
    x = g.node("MatMul", reshape(g, x, -1, CHANNELS), weights)
    refuse(finished(g, reshape(g, x, -1, HEIGHT, WIDTH, CHANNELS)), multiply_cells)
