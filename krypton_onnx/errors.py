"""Errors a user can meet. Each message is one line: what was wrong, where, and what to do."""


class KryptonError(ValueError):
    """Base of every error that krypton-onnx raises on purpose."""

    def __init__(self, message: str) -> None:
        # Names out of a model or of files may hold anything, line breaks and a terminal's control codes included.
        super().__init__("".join(char if char.isprintable() else " " for char in message))


class ModelError(KryptonError):
    """The model, or the file it comes from, is at fault."""


class NotRewritable(ModelError):
    """The model has no incremental form, though ONNX Runtime may well run it: by full inference it is explained."""


class ImageError(KryptonError):
    """The image, or an argument that describes the explanation, is at fault."""


class TooManyPixels(ImageError):
    """The image is larger than what is read."""


def one_line(error: BaseException | str) -> str:
    """The text of an exception on one line, to stand inside a message of ours."""
    return " ".join("".join(char if char.isprintable() else " " for char in str(error)).split())
