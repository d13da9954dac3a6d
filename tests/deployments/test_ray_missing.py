"""Without the extra: one line says which it is. Runs whether it is installed or not."""

import subprocess
import sys

import doc_files
import pytest

HIDDEN = "import sys; sys.modules[{package!r}] = None\n"
COMMAND = """
sys.argv = ["krypton-onnx", "explain", "model.onnx", "photos", "-o", "maps", "--engine", "ray"]
from krypton_onnx.__main__ import main
main()
"""
CALL = """
import krypton_onnx as kx
try:
    kx.ray.explain("photos", "model.onnx", output="maps")
except ImportError as error:
    sys.exit(f"told: {error}")
"""


@pytest.mark.parametrize("package", ["ray", "pyarrow"])
@pytest.mark.parametrize(("code", "start"), [(COMMAND, "krypton-onnx: error: "), (CALL, "told: ")])
def test_the_extra_is_named(tmp_path, package, code, start):
    doc_files.write(tmp_path)
    script = [sys.executable, "-c", HIDDEN.format(package=package) + code]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and not (tmp_path / "maps").exists()
    wanted = "to explain on Ray, the packages of the extra are needed: pip install 'krypton-onnx[ray]' (there is no"
    assert done.stderr.startswith(start + wanted) and len(done.stderr.splitlines()) == 1, done.stderr
