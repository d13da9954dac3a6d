"""`python -m krypton_onnx` is the command line, for where its script is not on the path."""

from krypton_onnx.cli import main

if __name__ == "__main__":
    main()
