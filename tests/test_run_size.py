"""How many images full inference runs at once: whatever is fastest, and whatever it is the scores are the same."""

import numpy as np
import pytest
from tiny_models import image_of, tiny

import krypton_onnx as kx
from krypton_onnx.runtime.costs import HOST
from krypton_onnx.runtime.run_size import TRIES, RunSize

SIZES = HOST.full_sizes


@pytest.mark.parametrize("fastest", SIZES)
def test_the_fastest_size_is_kept(fastest: int) -> None:
    size = RunSize()
    tried = []
    for _ in range(TRIES * len(SIZES)):
        tried.append(size.next())
        seconds = 9.0 if tried.count(tried[-1]) == 1 else 1.0 if tried[-1] == fastest else 2.0
        size.told(tried[-1], seconds * tried[-1])
    assert {each: tried.count(each) for each in SIZES} == dict.fromkeys(SIZES, TRIES)
    assert size.next() == fastest


def test_other_numbers_of_images_tell_nothing() -> None:
    size = RunSize()
    for _ in range(50):
        size.told(3, 0.0)
    assert size.next() == SIZES[0]


def test_scores_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    session, image, asked = kx.OcclusionSession(tiny()), image_of(1, 3, 20, 24), {"patch": 5, "stride": 2, "fill": 0.3}
    runs: list[int] = []
    told = RunSize.told

    def watched(size: RunSize, images: int, seconds: float) -> None:
        runs.append(images)
        told(size, images, seconds)

    monkeypatch.setattr(RunSize, "told", watched)
    free = session.explain(image, mode="naive", **asked)
    assert set(runs) >= set(SIZES)
    runs.clear()
    fixed = session.explain(image, mode="naive", batch_size=5, **asked)
    assert set(runs) <= {1}  # the unoccluded image; the caller has chosen
    np.testing.assert_allclose(free.scores, fixed.scores, rtol=0, atol=1e-5)
