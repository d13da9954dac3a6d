"""From the options on the command line and the model's own declaration to the array that the model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from krypton_onnx.cli import options
from krypton_onnx.cli.console import misuse
from krypton_onnx.errors import ImageError, ModelError
from krypton_onnx.images import ChannelOrder, Layout, Preparation, PreparedImage, prepare_image

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from krypton_onnx import OcclusionSession


@dataclass(frozen=True)
class PreparingOptions:
    """What was said on the command line about how the model wants its image; None where nothing was."""

    scale: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    channel_order: ChannelOrder | None
    image_input: str | None
    input_shape: tuple[int, ...] | None

    @staticmethod
    def parse(
        scale: str | None,
        mean: str | None,
        std: str | None,
        channel_order: ChannelOrder | None,
        image_input: str | None,
        input_shape: str | None,
    ) -> PreparingOptions:
        """The options as they were written; exits with code 2 where one cannot be understood."""
        factor = None if scale is None else options.numbers("--scale", scale)
        if factor is not None and len(factor) != 1:
            misuse("--scale", f"{scale!r} is not one number; --std divides each channel by its own")
        shape, image_input = options.shape_and_input(input_shape, image_input)
        return PreparingOptions(
            None if factor is None else factor[0],
            None if mean is None else options.numbers("--mean", mean),
            None if std is None else options.numbers("--std", std),
            channel_order,
            image_input,
            shape,
        )

    @property
    def given(self) -> bool:
        """True where something was said about how a picture becomes numbers."""
        return any(value is not None for value in (self.scale, self.mean, self.std, self.channel_order))

    def prepare(
        self, source: Image | np.ndarray, session: OcclusionSession, name: str, base: Preparation | None = None
    ) -> PreparedImage:
        """The image as the session's model takes it; `name` starts the message where that is impossible.

        base : what holds where nothing was said (a specification's).
        """
        channels, size = self._channels_and_size(session)
        if not hasattr(source, "convert"):  # an array, not a picture
            self._refuse_for_arrays(name)
            return prepare_image(source, Preparation(size=size, layout=_layout(session)), channels, name)
        return prepare_image(source, self.preparation(session, base), channels, name)

    def preparation(self, session: OcclusionSession, base: Preparation | None = None) -> Preparation:
        """How a picture becomes what the session's model takes.

        Its size is the model's, else that of --input-shape, else the base's, else the picture's own.
        """
        channels, size = self._channels_and_size(session)
        base = base or Preparation(channel_order="gray" if channels == 1 else "rgb")
        return Preparation(
            size=size or base.size,
            mean=self.mean or base.mean,
            std=self.std or base.std,
            scale=base.scale if self.scale is None else self.scale,
            channel_order=self.channel_order or base.channel_order,
            layout=_layout(session),
        )

    def _channels_and_size(self, session: OcclusionSession) -> tuple[int | None, tuple[int, int] | None]:
        """Of the model's image; None where neither the model nor --input-shape tells."""
        dims = [dim if isinstance(dim, int) else None for dim in session.image_dims[1:]]
        if self.input_shape is not None:
            given = self.input_shape[1:]
            if any(dim not in (None, wanted) for dim, wanted in zip(dims, given, strict=True)):
                raise ModelError(
                    f"--input-shape {','.join(map(str, self.input_shape))} contradicts the model's "
                    f"input '{session.image_input}' of {','.join(map(str, session.image_dims))}"
                )
            dims = list(given)
        channels, height, width = dims if session.layout == "NCHW" else (dims[2], dims[0], dims[1])
        if height is None and width is None:
            return channels, None
        if height is None or width is None:
            raise ModelError(
                f"only one of height and width of the image input '{session.image_input}' is known: "
                f"give both with --input-shape {session.image_input}:1,3,224,224"
            )
        return channels, (height, width)

    def _refuse_for_arrays(self, name: str) -> None:
        for option, value in (
            ("--scale", self.scale),
            ("--mean", self.mean),
            ("--std", self.std),
            ("--channel-order", self.channel_order),
        ):
            if value is not None:
                raise ImageError(f"{name}: an array is taken as it is, so {option} has no meaning for it")


def _layout(session: OcclusionSession) -> Layout:
    return "nhwc" if session.layout == "NHWC" else "nchw"


def execution_providers(names: str | None) -> list[str] | None:
    """ONNX Runtime's names from "cuda,cpu"; a name that it has not is left for the session to refuse."""
    if names is None:
        return None
    import onnxruntime

    known = {name.removesuffix("ExecutionProvider").lower(): name for name in onnxruntime.get_available_providers()}
    words = [name.strip() for name in names.split(",") if name.strip()]
    return [known.get(word.lower().removesuffix("executionprovider"), word) for word in words]
