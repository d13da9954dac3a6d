"""The program: `krypton-onnx`, and `python -m krypton_onnx` where its script is not on the path."""

import os
import sys


def main() -> None:
    """Run the command line, and end quietly by Ctrl-C also while it is being imported."""
    # ONNX Runtime's own builds send usage data as of 1.31; nobody who explains patients' images expects that.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        from krypton_onnx.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
