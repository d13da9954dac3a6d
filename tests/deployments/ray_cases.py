"""What tests of Ray share. Skipped where the extra is missing."""

from pathlib import Path

import pytest

MISSING = "Ray or PyArrow is not installed (the extra ray)"
pa = pytest.importorskip("pyarrow", reason=MISSING)
parquet = pytest.importorskip("pyarrow.parquet", reason=MISSING)
pytest.importorskip("pyarrow.fs", reason=MISSING)
pytest.importorskip("ray.data", reason=MISSING)
ray = pytest.importorskip("ray", reason=MISSING)

PREPARED = {"preparation": "imagenet"}
COARSE = {"patch": 16, "stride": 16}


def cut_short(path: str) -> None:
    """Half of a photo."""
    whole = Path("photos/000.jpg").read_bytes()
    Path(path).write_bytes(whole[: len(whole) // 2])
