"""Tests here need more than Python packages: Node, a browser, a server, a cluster. They use the helpers of tests/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
