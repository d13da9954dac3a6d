"""Errors a user can meet. Each message is one line: what was wrong, where, and what to do."""


class KryptonError(ValueError):
    """Base of every error that krypton-onnx raises on purpose."""


class ModelError(KryptonError):
    """The model, or the file it comes from, is at fault."""


class ImageError(KryptonError):
    """The image, or an argument that describes the explanation, is at fault."""


def one_line(error: BaseException | str) -> str:
    """The text of an exception on one line, to stand inside a message of ours."""
    return " ".join(str(error).split())
