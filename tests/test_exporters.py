"""Models as exporters write them: PyTorch's two, Keras' own and tf2onnx (exported/), Caffe2's in the onnx package.

Where exported/ comes from: exporters/. What stays incremental of each: benchmarks/coverage_tables.py prints it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from naive import assert_scores_equal, naive_map
from old_graphs import LARGE, OLD_GRAPHS, old_graph, with_seeded_weights
from rewritten_models import assert_exact

import krypton_onnx as kx

EXPORTED = sorted((Path(__file__).parent / "exported").glob("*.onnx"))
NAMES = [path.stem for path in EXPORTED]
PATCH, STRIDE = (9, 7), (13, 11)
GATED = {"mobile"}
"""Networks whose last block has a squeeze-and-excite: global by nature, and so is what follows."""
AT_THE_HEAD = {
    "GlobalAveragePool", "ReduceMean", "AveragePool", "Flatten", "Reshape", "Gemm", "MatMul", "Squeeze",
}  # fmt: skip


def network_of(name: str) -> str:
    """'mobile' of 'torch_mobile_dynamo_fixed'."""
    return name.split("_")[1]


def example(inspection: kx.Inspection) -> np.ndarray:
    """An image of the model's own layout."""
    shape = inspection.input_shape
    return smooth(*shape[1:3], "NHWC") if shape[3] == 3 else smooth(*shape[2:4])


def old_image() -> np.ndarray:
    return smooth(224, 224)


def smooth(height: int, width: int, layout: str = "NCHW", seed: int = 3) -> np.ndarray:
    """float32, a batch of one: waves and seeded noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(0.2 * y + 0.1 * x), np.cos(0.15 * y), np.sin(0.3 * x)])
    image = (waves + 0.5 * rng.standard_normal(waves.shape)).astype(np.float32)[None]
    return np.ascontiguousarray(image.transpose(0, 2, 3, 1)) if layout == "NHWC" else image


def corners_and_means(outputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """A score of a segmentation (N, 4, H, W) or (N, H, W, 4): every mean, and some single cells."""
    value = next(iter(outputs.values()))
    value = value.transpose(0, 3, 1, 2) if value.shape[3] == 4 else value
    cells = [value[:, :, row, column] for row, column in ((0, 0), (20, 11), (-1, -1), (33, 30))]
    return np.concatenate([value.mean(axis=(2, 3)), *cells], axis=1)


def test_every_exporter_wrote_every_network() -> None:
    by_exporter: dict[str, set[str]] = {}
    for name in NAMES:
        by_exporter.setdefault(name.replace(network_of(name), "*"), set()).add(network_of(name))
    assert set(by_exporter) == {
        "torch_*", "torch_*_fixed", "torch_*_dynamo", "torch_*_dynamo_fixed", "keras_*", "tf2onnx_*_fixed"
    }  # fmt: skip
    assert all(len(networks) == 8 for networks in by_exporter.values()), by_exporter


@pytest.mark.parametrize("path", EXPORTED, ids=NAMES)
def test_no_notes_about_the_place_of_writing(path: Path) -> None:
    written = path.read_bytes()
    assert len(written) < 70_000
    assert not [word for word in (b"/work", b"/tmp", b"/home", b"/root", b"site-packages", b".py") if word in written]


@pytest.mark.parametrize("path", EXPORTED, ids=NAMES)
def test_maps_equal_full_inference(path: Path) -> None:
    inspection = kx.inspect(path, PATCH, STRIDE)
    image = example(inspection)
    proto = onnx.load(path)
    segments = network_of(path.stem) == "segmentation"
    fill = np.random.default_rng(4).normal(0, 2, (3, *PATCH)).astype(np.float32)
    session = kx.OcclusionSession(str(path))
    heat_map = session.explain(
        image, targets=range(20 if segments else 6), patch=PATCH, stride=STRIDE, fill=fill,
        score=corners_and_means if segments else "output",
    )  # fmt: skip
    expected, baseline = naive_map(proto, image, heat_map.tops, heat_map.lefts, fill)
    if segments:
        expected, baseline = corners_and_means({"": expected}), corners_and_means({"": baseline[None]})[0]
    probabilities = proto.graph.node[-1].op_type == "Softmax"
    assert np.ptp(expected) > 0.05, "the test would compare nothing"
    assert_scores_equal(heat_map.scores, expected.T.reshape(heat_map.scores.shape), probabilities)
    assert_scores_equal(heat_map.baseline, baseline, probabilities)


@pytest.mark.parametrize("path", EXPORTED, ids=NAMES)
def test_rewritten_file_is_exact_in_stock_onnx_runtime(path: Path) -> None:
    assert_exact(onnx.load(path), PATCH)


@pytest.mark.parametrize("path", EXPORTED, ids=NAMES)
def test_all_before_the_head_stays_incremental(path: Path) -> None:
    inspection = kx.inspect(path, PATCH, STRIDE)
    ends = [reason.split()[0] for reason in inspection.end_reasons]
    network = network_of(path.stem)
    if network in GATED:
        assert inspection.incremental_share > 0.95
        assert "Mul" in ends  # where the gates meet the activation, and nowhere else
        assert set(ends) <= {"Mul", *AT_THE_HEAD}
    else:
        assert inspection.incremental_share == 1.0, inspection.end_reasons
        assert set(ends) <= AT_THE_HEAD
        assert len(ends) == (network != "segmentation"), inspection.end_reasons


@pytest.mark.parametrize("name", OLD_GRAPHS)
def test_old_graphs_are_incremental_as_they_come(name: str) -> None:
    inspection = kx.inspect(old_graph(name), 16, 16)
    ends = [reason.split()[0] for reason in inspection.end_reasons]
    assert inspection.input_shape == (1, 3, 224, 224)
    assert inspection.incremental_share > 0.999, inspection.end_reasons  # DenseNet's head is a convolution
    assert set(ends) <= AT_THE_HEAD and len(ends) == 1


@pytest.mark.parametrize("name", sorted(set(OLD_GRAPHS) - LARGE))
def test_old_graphs_run_as_they_come(name: str) -> None:
    """Every class gets the same score, so this is about running at all, and about the baseline."""
    image = old_image()
    session = kx.OcclusionSession(str(old_graph(name)))
    heat_map = session.explain(image, (0, 999), patch=(20, 16), stride=100, region=(100, 202, 140, 224))
    expected, baseline = naive_map(onnx.load(old_graph(name)), image, [100], [202], np.zeros((3, 20, 16), np.float32))
    assert_scores_equal(heat_map.scores.ravel(), expected.ravel()[[0, 999]], probabilities=False)
    assert_scores_equal(heat_map.baseline, baseline.ravel()[[0, 999]], probabilities=False)


@pytest.mark.parametrize("name", OLD_GRAPHS)
def test_logits_of_old_graphs_equal_full_inference(name: str) -> None:
    image = old_image()
    model = with_seeded_weights(onnx.load(old_graph(name)), image, seed=1)
    score = "logit" if model.graph.node[-1].op_type == "Softmax" else "output"
    session = kx.OcclusionSession(model.SerializeToString())
    # Two neighbouring positions at the right border, and a patch that shows.
    fill = np.random.default_rng(2).normal(0, 6, (3, 40, 32)).astype(np.float32)
    heat_map = session.explain(
        image, range(0, 1000, 50), (40, 32), (40, 6), fill, region=(100, 186, 140, 224), score=score
    )
    if score == "logit":
        output = model.graph.node[-1].input[0]
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=output))
    expected, baseline = naive_map(model, image, heat_map.tops, heat_map.lefts, fill)
    expected, baseline = expected.reshape(len(expected), -1)[:, ::50], baseline.ravel()[::50]
    assert np.abs(expected - baseline).max() > 0.02, "the test would compare nothing"
    assert_scores_equal(heat_map.scores, expected.T.reshape(heat_map.scores.shape), probabilities=False)
    assert_scores_equal(heat_map.baseline, baseline, probabilities=False)
