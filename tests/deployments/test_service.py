"""`krypton-onnx serve`: every answer is the map that Python computes."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from service_server import events_of
from tolerances import assert_scores_equal

import krypton_onnx as kx
from krypton_onnx.runtime.heat_map import HeatMap

pytest_plugins = ("service_fixtures",)
ASKED = {"patch": "12,8", "stride": "8", "top": "2"}


@pytest.fixture(scope="module")
def expected(files):
    """The explanation in Python, of the same file by the same options."""
    spec = kx.ExplanationSpec(
        str(files / "model.onnx"), preparation=kx.Preparation.preset("imagenet"), patch=(12, 8), stride=(8, 8), top=2
    )
    session = spec.session()
    labels = (files / "labels.txt").read_text().split("\n")[:-1]
    return kx.ExplanationSpec(spec.model, preparation=session.preparation, patch=(12, 8), stride=(8, 8), top=2
                              ).explanation(files / "photo.jpg", session, labels)  # fmt: skip


def same(have, want: HeatMap) -> None:
    assert_scores_equal(np.array(have["scores"], np.float32), want.scores, probabilities=True)
    assert_scores_equal(np.array(have["baseline"], np.float32), want.baseline, probabilities=True)
    for name in ("targets", "tops", "lefts", "patch", "stride"):
        assert list(have[name]) == list(getattr(want, name)), name
    assert have["complete"] is True and have["mode"] == "exact"


def test_json_is_the_map_of_python(service, files, expected):
    answer = service.explain(files / "photo.jpg", **ASKED)
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    have = answer.json()
    same(have, expected.heat_map)
    assert set(expected.to_dict()) == set(have) - {"warnings"}
    assert have["names"] == [expected.name_of(one) for one in expected.heat_map.targets]
    assert have["source"] == "photo.jpg" and have["source_sha256"] == expected.source_sha256
    assert have["steps"] == list(expected.steps)
    # What is told can be replayed, and tells nothing of where things are.
    assert have["specification"]["model"]["path"] == "model.onnx"
    assert "time_budget" not in have["specification"].get("computing", {})
    assert str(files) not in answer.text
    replayed = kx.ExplanationSpec.from_dict(have["specification"], folder=files)
    same(have, replayed.explain(files / "photo.jpg"))


def test_a_raw_body_and_a_form_ask_the_same(service, files, expected):
    content = (files / "photo.jpg").read_bytes()
    raw = service.client.post("/explain", content=content, headers={"Content-Type": "image/jpeg"}, params=ASKED)
    same(raw.json(), expected.heat_map)
    form = service.client.post("/explain", files={"image": ("photo.jpg", content)}, data=ASKED)
    same(form.json(), expected.heat_map)
    # What the form says goes before what the address says; what it leaves empty is not said.
    both = service.client.post(
        "/explain", files={"image": ("p", content)}, data={**ASKED, "score": ""}, params={"top": 1}
    )
    same(both.json(), expected.heat_map)


def test_the_arrays_are_those_of_python(service, files, expected, tmp_path):
    answer = service.explain(files / "photo.jpg", **ASKED, format="npz")
    (tmp_path / "map.npz").write_bytes(answer.content)
    loaded = HeatMap.load(tmp_path / "map.npz")
    assert_scores_equal(loaded.scores, expected.heat_map.scores, probabilities=True)
    np.testing.assert_array_equal(loaded.predicted, expected.heat_map.predicted)


def test_the_picture_is_that_of_python(service, files, expected):
    answer = service.client.post(
        "/explain", files={"image": ("photo.jpg", (files / "photo.jpg").read_bytes())}, params=ASKED,
        headers={"Accept": "text/plain;q=1, image/png;q=0.9, */*;q=0.1"},
    )  # fmt: skip
    assert answer.headers["content-type"] == "image/png" and answer.headers["x-complete"] == "true"
    file = io.BytesIO()
    expected.plot().savefig(file, format="png")
    have, want = (
        np.asarray(Image.open(io.BytesIO(one)).convert("RGB"), int) for one in (answer.content, file.getvalue())
    )
    assert have.shape == want.shape
    assert np.abs(have - want).max() <= 2  # of a colour, where a score rounds otherwise


def test_the_report_is_one_page_of_the_map(service, files, expected):
    answer = service.explain(files / "photo.jpg", **ASKED, format="html")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    shown = json.loads(answer.text.partition('id="data">')[2].partition("</script>")[0])
    assert [one["id"] for one in shown["targets"]] == list(expected.heat_map.targets)
    assert shown["grid"]["tops"] == expected.heat_map.tops.tolist()
    assert str(files) not in answer.text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("*/*", "application/json"), ("image/*", "image/png"), ("application/octet-stream", "application/x-npz"),
     ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"), ("text/csv", None)],
)  # fmt: skip
def test_accept_chooses_the_answer(service, files, accept, kind):
    answer = service.client.post(
        "/explain", content=(files / "photo.jpg").read_bytes(), params={"stride": 24},
        headers={"Content-Type": "image/jpeg", "Accept": accept},
    )  # fmt: skip
    assert answer.status_code == (406 if kind is None else 200)
    assert kind is None or answer.headers["content-type"] == kind


def test_a_stream_ends_with_the_map(service, files, expected):
    asked = {"stride": "2", "patch": "12,8", "top": "2", "format": "png"}
    with service.client.stream("POST", "/explain/stream", params=asked, content=(files / "photo.jpg").read_bytes(),
                               headers={"Content-Type": "image/jpeg"}) as answer:  # fmt: skip
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = events_of(answer)
    names = [name for name, _ in events]
    assert names[-1] == "map" and set(names) == {"progress", "refinement", "map"}
    final = events[-1][1]
    session = kx.OcclusionSession(files / "model.onnx", preparation="imagenet")
    want = session.explain(files / "photo.jpg", stride=2, patch=(12, 8), top=2)
    same(final, want)
    assert final["file"]["media_type"] == "image/png"
    done = [data["done"] for name, data in events if name == "progress"]
    assert done == sorted(done) and done[-1] == want.computed.size
    # What came before agrees with it wherever it is known.
    for name, data in events:
        if name == "refinement":
            scores = np.frombuffer(base64.b64decode(data["scores"]), "<f4").reshape(data["shape"])
            known = np.isfinite(scores)
            assert known[0].sum() == data["done"] and data["targets"] == list(want.targets)
            np.testing.assert_array_equal(scores[known], np.array(final["scores"], np.float32)[known])


def test_classes_by_name_fills_and_scores(service, files):
    session = kx.OcclusionSession(files / "model.onnx", preparation="imagenet")
    have = service.explain(
        files / "photo.jpg", target=["espresso", "0"], fill=["black", "0.5,0.4,0.3"], score="log-odds", stride="16",
        patch_shape="ellipse", region="0,0,48,64", seed="3",
    ).json()  # fmt: skip
    want = session.explain(
        files / "photo.jpg", targets=(4, 0), fill=["black", (0.5, 0.4, 0.3)], score="log-odds", stride=16,
        patch_shape="ellipse", region=(0, 0, 48, 64), seed=3,
    )  # fmt: skip
    assert have["targets"] == [4, 0] and have["score_name"] == want.score_name
    assert_scores_equal(np.array(have["scores"], np.float32), want.scores, probabilities=False)


def test_other_formats_of_images(service, files):
    picture = Image.open(files / "photo.jpg")
    first = None
    for form in ("PNG", "TIFF", "BMP", "WEBP", "GIF"):
        file = io.BytesIO()
        picture.save(file, form, **({"lossless": True} if form == "WEBP" else {}))
        have = service.explain(file.getvalue(), stride="24")
        assert have.status_code == 200, (form, have.text)
        scores = np.array(have.json()["scores"])
        first = scores if first is None else first
        if form != "GIF":  # of 256 colours
            np.testing.assert_allclose(scores, first, atol=1e-5)
    scan = service.client.post("/explain", content=(files / "scan.dcm").read_bytes(), params={"stride": 24},
                               headers={"Content-Type": "application/dicom"})  # fmt: skip
    assert scan.status_code == 200, scan.text
    assert any("DICOM" in step for step in scan.json()["steps"]) and "Nobody" not in scan.text


def test_what_is_told_of_the_service(service, files):
    assert service.client.get("/healthz").json() == {"status": "alive"}
    assert service.client.get("/readyz").json() == {"status": "ready"}
    model = service.client.get("/model").json()
    assert model["name"] == "model.onnx" and len(model["sha256"]) == 64 and model["labels"] == 10
    assert model["input_shape"][1:] == [3, 64, 64] and model["tuning"] is None
    assert str(files) not in json.dumps(model)
    before = service.metric("krypton_positions_total")
    service.explain(files / "photo.jpg", stride="24")
    assert service.metric("krypton_positions_total") == before + 9
    assert service.metric("krypton_queue_length") == service.metric("krypton_in_flight") == 0
    assert service.metric("krypton_workers_ready") == 1
    assert service.metric('krypton_requests_total{method="GET",path="/healthz",status="200"}') >= 1
    described = service.client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/explain", "/explain/stream", "/healthz", "/readyz", "/model", "/metrics"}
    assert service.client.get("/explain").status_code == 405
    for path in ("/../etc/passwd", "/static/..%2fapp.py", "/static/nothing"):
        assert service.client.get(path).status_code == 404


def test_one_line_a_request_and_nothing_of_what_was_asked(service, files):
    service.explain(files / "photo.jpg", stride="24", target="espresso")
    line = service.lines[-1]
    assert line.startswith("127.0.0.1 POST /explain 200, ") and line.endswith(" s\n")
    assert not any("espresso" in one or "photo" in one for one in service.lines)


def test_every_package_that_is_needed_is_asked_for(monkeypatch):
    import importlib.util

    from krypton_onnx import service

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else found(name))
    with pytest.raises(kx.KryptonError, match=r"needs uvicorn: pip install 'krypton-onnx\[serve\]'"):
        service.require_installed()


def test_the_package_holds_the_page():
    page = Path(kx.__file__).parent / "service" / "page"
    assert {one.name for one in page.iterdir()} == {"index.html", "page.js", "page.css", "docs.html", "docs.js"}
