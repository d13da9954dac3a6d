"""Schemathesis: what /openapi.json says and what the service does are the same, for requests that nobody thought of."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import service_server  # noqa: F401 (which skips this where the service is not installed)

pytest.importorskip("schemathesis", reason="Schemathesis is not installed (the extra dev)")
pytest_plugins = ("service_fixtures",)

HOOKS = Path(__file__).with_name("service_hooks.py")
EXAMPLES, SEED = 30, 1
# Whether a class exists, a patch fits the model, the model is tuned is for the model to say: 422.
CONFIGURATION = f'hooks = "{HOOKS}"\n[checks]\npositive_data_acceptance.expected-statuses = ["2xx", "422"]\n'


def test_schemathesis_finds_nothing(service, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"), "--config-file", "schemathesis.toml", "run",
            f"{service.url}/openapi.json", "--max-examples", str(EXAMPLES), "--seed", str(SEED), "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    assert "6 selected / 6 total" in done.stdout
    assert int(re.search(r"(\d+) generated", done.stdout)[1]) > 300
    # It got through to the model, and never to an error of the service's own.
    said = service.client.get("/metrics").text
    statuses = set(re.findall(r'krypton_requests_total\{method="POST",path="/explain",status="(\d+)"\}', said))
    assert {"200", "400", "422"} <= statuses and not {"500", "502", "504"} & statuses, statuses
