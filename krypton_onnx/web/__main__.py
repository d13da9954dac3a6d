"""Build the page into the package, where a wheel takes it from: python -m krypton_onnx.web"""

from __future__ import annotations

import sys

from krypton_onnx.errors import KryptonError
from krypton_onnx.web.building import PACKAGED, build_page


def main() -> None:
    """Exits with code 1 and one line where that fails."""
    try:
        build_page(PACKAGED)
    except KryptonError as error:
        sys.exit(f"krypton-onnx: error: {error}")
    print(f"built {PACKAGED}")


if __name__ == "__main__":
    main()
