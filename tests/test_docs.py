"""Every code block of README and docs runs as it stands, and gives what the docs say."""

import inspect
import itertools
import re
import shutil
import tomllib
from pathlib import Path

import doc_files
import doc_pages
import numpy as np
import onnx
import pytest
from naive import naive_map
from tolerances import assert_scores_equal

from krypton_onnx.cli import app
from krypton_onnx.images.presets import PRESETS

RUN = ("python", "bash", "toml", "json")
NOT_RUN = {
    "README.md": 3,
    "docs/benchmarks.md": 5,
    "docs/cuda.md": 2,
    "docs/ray.md": 6,
    "docs/deploy.md": 1,
    "docs/how-to/export.md": 3,
    "docs/how-to/service.md": 1,
    "docs/index.md": 1,
    "docs/quick-start.md": 1,
    "docs/servers.md": 4,
    "docs/service.md": 5,
    "docs/web.md": 2,
}
"""How many blocks of a page are marked as not to be run; each mark has its reason."""


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    doc_files.write(folder)
    return folder


@pytest.fixture
def here(originals, tmp_path, monkeypatch):
    """A working directory with what the examples read."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def oracle(tops, lefts):
    """Scores (rows, columns, classes) and baseline by full inference, of what the pages call model and image."""
    image = np.load("image.npy")[None]
    scores, baseline = naive_map(onnx.load("model.onnx"), image, tops, lefts, np.zeros((3, 16, 16), np.float32))
    return scores.reshape(len(tops), len(lefts), -1), baseline


def about_the_readme(names):
    heat_map = names["heat_map"]
    scores, baseline = oracle(heat_map.tops, heat_map.lefts)
    [target] = heat_map.targets
    assert target == baseline.argmax()
    assert_scores_equal(heat_map.scores[0], scores[..., target], probabilities=True)
    assert Path("map.png").read_bytes().startswith(b"\x89PNG")
    approximate = names["approximate"]
    assert approximate.mode == "approximate" and approximate.estimated_ssim > 0.8


def about_the_rewritten_model(names):
    scores, baseline = oracle(names["tops"], names["lefts"])
    assert_scores_equal(names["scores"], scores, probabilities=True)
    assert_scores_equal(names["drop"], baseline - scores, probabilities=True)
    feeds = {**names["feeds"], "occlusion_origin": names["origins"]}
    [again] = names["session"].run([names["score"]], feeds)  # the second session, which has our kernels
    assert_scores_equal(again.reshape(scores.shape), scores, probabilities=True)


def about_deploying(names):
    advice = names["advice"]
    tops, lefts = (np.unique([place for run in advice["batches"] for place in run[axis]]) for axis in ("tops", "lefts"))
    scores, baseline = oracle(tops, lefts)
    target = names["target"]
    assert target == baseline.argmax() and names["drop"].shape == scores.shape[:2]
    assert_scores_equal(names["drop"], baseline.ravel()[target] - scores[..., target], probabilities=True)
    assert 1e-6 < np.abs(names["capped"] - names["exact"]).max() < 0.1
    assert names["tuning"]["specification"]["patch"] == [16, 16] and names["ways"][-1] == [1.0]


def about_the_servers(names):
    """Triton's configuration names what the model has, of the same types and sizes."""
    text = (doc_pages.ROOT / "docs" / "servers.md").read_text()
    [config] = re.findall(r'```protobuf\n([^`]*backend: "onnxruntime"[^`]*)```', text)
    rows = re.findall(r'{ name: "(\w+)" data_type: TYPE_(\w+) dims: \[ ([-\d, ]+) \] }', config)
    types = {"FP32": "tensor(float)", "INT64": "tensor(int64)"}
    told = [(name, types[kind], [int(size) for size in sizes.split(",")]) for name, kind, sizes in rows]
    session = names["own"]
    assert told == [
        (value.name, value.type, [size if isinstance(size, int) else -1 for size in value.shape])
        for value in (*session.get_inputs(), *session.get_outputs())
    ]


SLOW = ("demo", "web", "serve")
"""Their examples measure for a while, build a page by Node, or serve until Ctrl-C; their own tests run them."""

FURTHER = {
    "README.md": about_the_readme,
    "docs/deploy.md": about_deploying,
    "docs/rewritten-model.md": about_the_rewritten_model,
    "docs/servers.md": about_the_servers,
}


@pytest.mark.parametrize("page", doc_pages.PAGES)
def test_a_page_runs(page, here):
    document = doc_pages.parse(page)
    ran = sum(language in RUN for _, language in doc_pages.languages(document))
    skipped = doc_pages.run(document)
    assert len(skipped) <= len(doc_pages.skips(document)) <= ran
    if page in FURTHER:
        FURTHER[page](document.namespace)


def test_what_does_not_run_is_marked_with_a_reason_and_counted():
    marks = {page: doc_pages.skips(doc_pages.parse(page)) for page in doc_pages.PAGES}
    for page, reasons in marks.items():
        print(*(f"{page}: {reason}" for reason in reasons), sep="\n")
        assert all(reason and len(reason) > 10 for reason in reasons), f"{page}: a mark without a reason"
    assert {page: len(reasons) for page, reasons in marks.items() if reasons} == NOT_RUN


def test_the_examples_in_the_help_run(here, tmp_path):
    examples = []
    for command in app.registered_commands:
        text = " ".join(inspect.getdoc(command.callback).split())
        found = re.search(r"Example: (krypton-onnx .*)", text)
        assert found, f"{command.callback.__name__}: its help has no example"
        examples += [] if command.callback.__name__ in SLOW else [found[1]]
    shutil.copy("labels.txt", "names.txt")
    page = tmp_path / "help.md"
    page.write_text("```bash\n" + "\n".join(examples) + "\n```\n")
    assert doc_pages.run(doc_pages.parse(page)) == []


@pytest.mark.parametrize("page", doc_pages.PAGES)
def test_commands_stand_in_fenced_blocks_which_are_run(page):
    text = (doc_pages.ROOT / page).read_text()
    unfenced = re.findall(r"^    (?:\$ )?(?:\S*/)?(?:krypton-onnx|pip|make|python3?) .*", text, re.M)
    assert unfenced == []


def test_a_page_that_is_wrong_is_found(here, tmp_path):
    for block in (
        "```python\nimport krypton_onnx as kx\nkx.nothing\n```",
        "```bash\nkrypton-onnx explain model.onnx no.jpg -o map.png\n```",
        "```bash\nmake everything\n```",
        "```toml\nformat = 1\n[model]\npaht = 'model.onnx'\n```",
        "```\nof no language\n```",
        "```python\nprint('one')\n```\n<!-- prints -->\n```text\ntwo\n```",
    ):
        page = tmp_path / "page.md"
        page.write_text(block + "\n")
        with pytest.raises(AssertionError, match=r"page\.md:\d"):
            doc_pages.run(doc_pages.parse(page))


def test_presets_are_those_of_the_quick_start():
    page = (doc_pages.ROOT / "docs" / "quick-start.md").read_text()
    assert dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.M)) == {
        name: preset.meaning for name, preset in PRESETS.items()
    }


def test_every_dependency_is_accounted_for():
    page = (doc_pages.ROOT / "docs" / "dependencies.md").read_text()
    project = tomllib.loads((doc_pages.ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    packages = {re.match(r"[\w-]+", one)[0] for one in itertools.chain(project["dependencies"], *extras.values())}
    assert not {name for name in packages if not re.search(rf"(?<![\w-]){name}(?![\w-])", page)}
    assert not {extra for extra in extras if f"`{extra}`" not in page}
