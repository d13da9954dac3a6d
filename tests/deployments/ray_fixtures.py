"""Ray on this machine, once for all tests, and a folder of images."""

import os
import shutil

import doc_files
import pytest
from ray_cases import ray


@pytest.fixture(scope="session")
def on_ray():
    """A cluster of two cores, with a small object store."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
        object_store_memory=150_000_000,
    )  # fmt: skip
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def originals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("originals")
    doc_files.write(folder)
    return folder


@pytest.fixture
def here(originals, tmp_path, monkeypatch):
    """A working directory with rewritten.onnx and photos/, which holds six."""
    shutil.copytree(originals, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path
