"""Images explained by workers on Ray: each map is the one that Python computes, and nothing is lost or made twice."""

import hashlib
import os
import signal
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ray_cases import COARSE, PREPARED, cut_short, pa, parquet, ray
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.ray.ledger import MOST_DEATHS, Ledger
from krypton_onnx.ray.records import SCHEMA, Origin
from krypton_onnx.ray.sources import find_files
from krypton_onnx.ray.storage import Storage, resolved
from krypton_onnx.ray.work import Job, Worker

pytest_plugins = ("ray_fixtures",)
pytestmark = pytest.mark.usefixtures("on_ray", "here")


def explained(dataset, output="maps", **given):
    """The summary, and what became of each image."""
    results = []
    made = kx.ray.explain(
        dataset, "rewritten.onnx", output=output, on_result=results.append, **{**PREPARED, **COARSE, **given}
    )
    return made, {result.key: result for result in results}


def rows(output="maps"):
    """All that stands in the Parquet files, of whatever run."""
    return parquet.read_table(f"{output}/maps").to_pylist()


def assert_same_map(heat_map, image, **given):
    """As a session in this process explains it."""
    alone = kx.OcclusionSession("rewritten.onnx", **PREPARED).explain(image, **{**COARSE, **given})
    assert_scores_equal(heat_map.scores, alone.scores, probabilities=True)
    assert_scores_equal(heat_map.baseline, alone.baseline, probabilities=True)
    told, expected = heat_map.to_dict(), alone.to_dict()
    near = ("scores", "baseline", "predicted", "note")  # a position between two classes may be either
    assert {name: told[name] for name in expected if name not in near} == {
        name: expected[name] for name in expected if name not in near
    }


def test_maps_are_exact_failures_stand_beside_them_and_a_second_run_does_only_what_is_missing():
    cut_short("photos/cut.jpg")
    np.save("photos/small.npy", np.zeros((3, 30, 64), np.float32))
    made, results = explained("photos", top=2, workers=2, labels=Path("labels.txt").read_text().splitlines())
    photos = [f"photos/{number:03}.jpg" for number in range(6)]
    assert made.explained == 6 and set(made.failed) == {"photos/cut.jpg", "photos/small.npy"} and not made.skipped
    assert sorted(key for key, result in results.items() if result.status == "ok") == photos
    read = dict(kx.ray.read("maps"))
    assert sorted(read) == photos
    for key, heat_map in read.items():
        assert_same_map(heat_map, key, top=2)
    failures = kx.ray.failures("maps")
    assert failures == made.failed and "cannot be read" in failures["photos/cut.jpg"]
    assert "(3, 30, 64)" in failures["photos/small.npy"]
    assert parquet.read_table("maps/maps").schema.equals(SCHEMA)
    by_key = {row["key"]: row for row in rows()}
    first = by_key["photos/000.jpg"]
    assert len(by_key) == len(rows()) == 8 and len(first["names"]) == 2
    assert first["image_sha256"] == hashlib.sha256(Path("photos/000.jpg").read_bytes()).hexdigest()
    assert results["photos/000.jpg"].said.startswith(f"{first['names'][0]}: probability 0.")

    # What failed is tried again, and what is there is not; nor is it read.
    Path("photos/cut.jpg").write_bytes(Path("photos/000.jpg").read_bytes())
    Path("photos/001.jpg").unlink()
    again, results = explained("photos", top=2, labels=Path("labels.txt").read_text().splitlines())
    assert again.explained == 1 and again.skipped == 5 and set(again.failed) == {"photos/small.npy"}
    assert Counter(row["key"] for row in rows())["photos/000.jpg"] == 1
    assert sorted(key for key, _ in kx.ray.read("maps")) == sorted([*photos, "photos/cut.jpg"])
    assert set(kx.ray.failures("maps")) == {"photos/small.npy"}

    # Or they are kept; and then nothing is left to do, and no worker is started.
    kept, _ = explained("photos", top=2, retry_failed=False)
    assert (kept.explained, kept.skipped, kept.failed) == (0, 7, {}) and kept.seconds < 5
    before = sorted(os.listdir("maps/maps"))
    with pytest.raises(kx.KryptonError, match=r"another specification \(stride, top\).*overwrite"):
        explained("photos", stride=8)
    assert sorted(os.listdir("maps/maps")) == before

    # An image of another content, where that is asked for.
    Path("photos/002.jpg").write_bytes(Path("photos/003.jpg").read_bytes())
    changed, _ = explained("photos", top=2, retry_failed=False, compare_content=True)
    assert (changed.explained, changed.skipped) == (1, 6)
    assert_same_map(dict(kx.ray.read("maps"))["photos/002.jpg"], "photos/003.jpg", top=2)

    # All anew.
    anew, _ = explained("photos/00[0-2].jpg", overwrite=True)
    assert anew.explained == 2 and len(rows()) == 2


def killed_in_the_middle(results, pids):
    """Called with each result: kills the worker of the first with SIGKILL."""

    def tell(result):
        results.append(result)
        if not pids:
            pids.append(int(result.worker.rpartition("/")[2]))
            os.kill(pids[0], signal.SIGKILL)

    return tell


def test_a_worker_killed_in_the_middle_loses_nothing_and_nothing_is_there_twice():
    for number in range(16):
        Image.open(f"photos/{number % 6:03}.jpg").rotate(number).save(f"photos/r{number:02}.png")
    results, pids = [], []
    made = kx.ray.explain(
        "photos/r*.png", "rewritten.onnx", output="maps", workers=2, images_per_file=2, patch=5, stride=1, **PREPARED,
        on_result=killed_in_the_middle(results, pids),
    )  # fmt: skip
    assert made.explained == 16 and not made.failed and not made.ambiguous
    assert Counter(row["key"] for row in rows()) == Counter(f"photos/r{number:02}.png" for number in range(16))
    workers = {int(row["worker"].rpartition("/")[2]) for row in rows()}
    assert pids[0] in workers and workers - set(pids), "the worker that was killed had done all of it"
    by_worker = Counter(int(row["worker"].rpartition("/")[2]) for row in rows())
    assert by_worker[pids[0]] < 16
    read = dict(kx.ray.read("maps"))
    assert_same_map(read["photos/r07.png"], "photos/r07.png", patch=5, stride=1)


def test_datasets_of_contents_and_of_arrays():
    session = kx.OcclusionSession("rewritten.onnx", **PREPARED)
    pixels = np.asarray(Image.open("photos/001.jpg"))
    scan = np.load("image.npy")
    stored = Path("photos/000.jpg").read_bytes() + b"\0\0"
    items = {
        "contents": [{"id": 7, "scan": stored}, {"id": 8, "scan": Path("image.npy").read_bytes()}],
        "pictures": [{"id": 7, "scan": pixels}],
        "arrays": [{"id": 7, "scan": scan}, {"id": 8, "scan": scan / 2}],
    }
    expected = {
        "contents": [session.explain("photos/000.jpg", **COARSE), session.explain(scan, **COARSE)],
        "pictures": [session.explain(Image.fromarray(pixels), **COARSE)],
        "arrays": [session.explain(scan, **COARSE), session.explain(scan / 2, **COARSE)],
    }
    for name, given in items.items():
        made, _ = explained(ray.data.from_items(given), output=name, key="id", image="scan", workers=1)
        assert made.explained == len(given), made
        read = dict(kx.ray.read(name))
        for number, alone in zip(("7", "8"), expected[name], strict=False):
            assert_scores_equal(read[number].scores, alone.scores, probabilities=True)
    [content] = [row for row in rows("contents") if row["key"] == "7"]
    assert content["image_sha256"] == hashlib.sha256(stored).hexdigest()  # also of bytes that end in zeros


def test_a_dataset_without_the_columns_and_a_key_given_twice():
    photos = [Path(f"photos/{number:03}.jpg").read_bytes() for number in range(2)]
    same = ray.data.from_items([{"path": "same", "bytes": content} for content in photos])
    with pytest.raises(kx.KryptonError, match="key='name' is no column of the dataset, which has: path, bytes"):
        explained(same, key="name", workers=1)
    assert not Path("maps/maps").exists()
    made, _ = explained(same, workers=1)
    assert made.ambiguous == ("same",)
    assert [key for key, _ in kx.ray.read("maps")] == ["same"]


def job(output: str, ledger) -> Job:
    spec = kx.ExplanationSpec("rewritten.onnx", **COARSE, preparation=kx.Preparation.preset("imagenet"))
    storage = Storage.of(output)
    return Job(
        spec, None, ray.put({}), ledger, storage, Origin("run", "0" * 64, "1" * 64), "path", None, None, False, 1
    )


def test_an_image_at_which_workers_die_is_not_tried_for_ever():
    ledger = ray.remote(num_cpus=0)(Ledger).remote()
    assert [ray.get(ledger.begin.remote("photos/000.jpg")) for _ in range(MOST_DEATHS)] == list(range(MOST_DEATHS))
    Storage.of("maps").write("specification.toml", b"")
    worker = Worker(job("maps", ledger))
    batch = {name: np.array(["photos/000.jpg", "photos/001.jpg"], object) for name in ("path", "file")}
    first, second = worker(batch).to_pylist()
    assert first["status"] == "failed" and f"the worker died {MOST_DEATHS} times at this image" in first["error"]
    assert second["status"] == "ok" and ray.get(ledger.begin.remote("photos/001.jpg")) == 0
    # The same again, as after the death of who did it: what is written is told, and not computed.
    began = time.perf_counter()
    assert [row["status"] for row in worker(batch).to_pylist()] == ["failed", "ok"]
    assert time.perf_counter() - began < 1 and len(rows()) == 2


def test_what_is_no_images_fault_ends_the_run():
    ledger = ray.remote(num_cpus=0)(Ledger).remote()
    worker = Worker(job("elsewhere", ledger))
    [row] = worker({"path": np.array(["photos/000.jpg"], object)}).to_pylist()
    assert row["status"] == "fatal" and "does not see this folder: give one that all nodes share" in row["error"]
    with pytest.raises(kx.ImageError, match="'strid' is no argument"):
        explained("photos", strid=3)
    with pytest.raises(kx.ImageError, match="workers must be a number of at least 1"):
        explained("photos", workers=0)
    with pytest.raises(kx.ImageError, match="no image is called so"):
        explained("photos/*.tif")
    with pytest.raises(kx.KryptonError, match="nosuch://folder: no file system is known"):
        explained("photos", output="nosuch://folder")
    with pytest.raises(kx.KryptonError, match="no folder of results"):
        next(kx.ray.read("photos"))
    assert not Path("maps").exists()


def test_a_specification_replayed_gives_the_same_and_its_model_may_move():
    spec = kx.ExplanationSpec("rewritten.onnx", patch=16, stride=16, preparation=kx.Preparation.preset("imagenet"))
    spec = spec.save("how.toml")
    assert kx.ray.explain(["photos/000.jpg"], spec=spec, output="maps").explained == 1
    Path("moved.onnx").write_bytes(Path("rewritten.onnx").read_bytes())
    assert kx.ray.explain(["photos/000.jpg"], "moved.onnx", spec=spec, output="maps").skipped == 1
    with pytest.raises(kx.KryptonError, match=r"another specification \(model\)"):
        kx.ray.explain(["photos/000.jpg"], "model.onnx", spec=spec, output="maps")
    stored = kx.ExplanationSpec.load("maps/specification.toml")
    assert stored.model_sha256 == spec.model_sha256 and rows()[0]["model_sha256"] == spec.model_sha256


# -- files -------------------------------------------------------------------------------------------------------------


def keys(*given: str) -> list[str]:
    return [file.key for file in find_files(given)]


def test_uris_mean_what_paths_mean(here):
    Path("photos/more").mkdir()
    Path("photos/more/x.png").write_bytes(b"x")
    Path("photos/.hidden.png").write_bytes(b"x")
    Path("photos/notes.txt").write_text("no image")
    base = (here / "photos").as_uri()
    names = [f"{base}/{number:03}.jpg" for number in range(6)]
    assert keys(base) == keys(f"{base}/") == [*names, f"{base}/more/x.png"]
    assert keys(f"{base}/*.jpg") == names and keys(f"{base}/00[1-2].jpg") == names[1:3]
    assert keys(f"{base}/**/*.png") == [f"{base}/more/x.png"] and keys(names[3]) == [names[3]]
    assert keys(f"{base}/*.txt") == [f"{base}/notes.txt"]
    assert keys("photos/000.jpg", "photos/*.jpg") == [f"photos/{number:03}.jpg" for number in range(6)]
    named = here / "named"
    named.mkdir()
    for name in ("a b.png", "p%41.png", "pA.png", "s#1.png", "q?.png"):  # to a URI some of these mean something else
        (named / name).write_bytes(name.encode())
    for file in find_files([named.as_uri()]):
        system, path = resolved(file.location)
        assert system.open_input_file(path).read().decode() == file.key.rpartition("/")[2]
    for nothing in (f"{base}/*.tif", f"{base}/none", "photos/none.jpg"):
        with pytest.raises(kx.ImageError):
            keys(nothing)
    dataset = kx.ray.images("photos/*.jpg")
    assert dataset.take(1) == [{"path": "photos/000.jpg", "file": str(here / "photos/000.jpg")}]


def test_images_and_results_in_a_file_system_that_is_not_local(here):
    Path("store").mkdir()
    store = pa.fs.SubTreeFileSystem(str(here / "store"), pa.fs.LocalFileSystem())
    base = (here / "photos").as_uri()
    made, _ = explained([f"{base}/000.jpg"], output="bucket/maps", filesystem=store, workers=1)
    assert made.explained == 1 and len(list(Path("store/bucket/maps/maps").iterdir())) == 1
    [(key, heat_map)] = kx.ray.read("bucket/maps", store)
    assert key == f"{base}/000.jpg"
    assert_same_map(heat_map, "photos/000.jpg")
    again, _ = explained([f"{base}/000.jpg"], output="bucket/maps", filesystem=store, workers=1, compare_content=True)
    assert again.skipped == 1 and again.explained == 0  # the worker read it, and found it the same


def test_a_write_that_fails_leaves_what_was(monkeypatch):
    storage = Storage.of("results")
    storage.write("maps/a.parquet", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(kx.KryptonError, match=r"cannot write .*results/maps/a\.parquet: No space left"):
        storage.write("maps/a.parquet", b"new")
    assert storage.read("maps/a.parquet") == b"old" and os.listdir("results/maps") == ["a.parquet"]


def test_a_foreign_file_among_the_maps_is_told():
    Storage.of("maps").write("maps/x.parquet", b"no parquet")
    with pytest.raises(kx.KryptonError, match="was not written by this"):
        explained("photos")
    Storage.of("maps").write("specification.toml", b"format = 2")
    with pytest.raises(kx.KryptonError, match="overwrite=True"):
        explained("photos")
    parquet.write_table(pa.table({"a": [1]}), "maps/maps/x.parquet")
    with pytest.raises(kx.KryptonError, match="is not a file of maps"):
        list(kx.ray.read("maps"))
