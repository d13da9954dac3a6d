"""No model, however broken, crashes the process, hangs, shows a traceback or leaves a file; a sound one is answered."""

import os
from pathlib import Path

import broken_images
import broken_models
import pytest
from trials import problems

# More of them: KRYPTON_FUZZ=5000 python -m pytest tests/test_broken_models.py -k mutations
MUTATIONS = int(os.environ.get("KRYPTON_FUZZ", "0")) or 80
CHUNK = 40  # cases a process

MODELS = [f"model:{name}" for kind in ("SOUND", "EITHER", "BROKEN") for name in getattr(broken_models, kind)]
IMAGES = [f"image:{name}" for kind in ("SOUND", "BROKEN") for name in getattr(broken_images, kind)]
SEEDS = [f"mutation:{seed}" for seed in range(MUTATIONS)]
REWRITTEN = [f"rewritten:{seed}" for seed in range(MUTATIONS // 4)]


def chunks(cases: list[str]) -> list[list[str]]:
    """Of a similar mix each."""
    count = -(-len(cases) // CHUNK)
    return [cases[start::count] for start in range(count)]


def test_the_corpus_is_large():
    assert len(MODELS) + len(IMAGES) >= 300 and len(set(MODELS + IMAGES)) == len(MODELS + IMAGES)
    assert len(broken_models.BROKEN) + len(broken_images.BROKEN) >= 200


@pytest.mark.parametrize("cases", chunks(MODELS), ids=lambda cases: cases[0])
def test_models(cases: list[str], tmp_path: Path):
    found = problems(cases, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("cases", chunks(IMAGES), ids=lambda cases: cases[0])
def test_images(cases: list[str], tmp_path: Path):
    found = problems(cases, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("cases", chunks(SEEDS), ids=lambda cases: cases[0])
def test_mutations(cases: list[str], tmp_path: Path):
    found = problems(cases, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("cases", chunks(REWRITTEN), ids=lambda cases: cases[0])
def test_mutations_of_rewritten_models(cases: list[str], tmp_path: Path):
    found = problems(cases, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("end", ["crash", "hang", "exit", "memory", "noise"])
def test_a_process_that_ends_is_seen(end: str, tmp_path: Path):
    """The trials themselves: what they are for is reported, and the cases after it are tried."""
    found = problems(["self:well", f"self:{end}", "self:well"], tmp_path)
    assert len(found) == 1 and f"self:{end}" in found[0], found
