"""From the options on the command line and the model's own declaration to the array that the model takes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import misuse
from krypton_onnx.errors import ImageError, ModelError
from krypton_onnx.images import ChannelOrder, Layout, Preparation, PreparedImage, prepare_image
from krypton_onnx.images.preparation import Fit, Resample

AUTO = "auto"  # of --providers: as of OcclusionSession

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from krypton_onnx import OcclusionSession

# The parameters of a command that are this, by name.
_PARAMETERS = (
    "preset", "preparation_file", "image_size", "fit", "resize", "resample", "window", "scale", "mean", "std",
    "channel_order", "image_input", "input_shape",
)  # fmt: skip
_FIELDS = ("fit", "resize", "resample", "window", "scale", "mean", "std", "channel_order")  # but size: of a Preparation


@dataclass(frozen=True)
class PreparingOptions:
    """What was said on the command line about how the model wants its image; None where nothing was.

    whole : of --preset or --preparation. The others change single fields of it.
    """

    whole: Preparation | None
    size: tuple[int, int] | None
    fit: Fit | None
    resize: int | None
    resample: Resample | None
    window: tuple[float, float] | None
    scale: float | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    channel_order: ChannelOrder | None
    image_input: str | None
    input_shape: tuple[int, ...] | None

    @staticmethod
    def of(context: typer.Context) -> PreparingOptions:
        """From a command whose parameters are called as those of `parse`, all or some."""
        return PreparingOptions.parse(**{name: context.params.get(name) for name in _PARAMETERS})

    @staticmethod
    def parse(
        scale: str | None = None,
        mean: str | None = None,
        std: str | None = None,
        channel_order: ChannelOrder | None = None,
        image_input: str | None = None,
        input_shape: str | None = None,
        preset: str | None = None,
        preparation_file: Path | None = None,
        image_size: str | None = None,
        fit: Fit | None = None,
        resize: int | None = None,
        resample: Resample | None = None,
        window: str | None = None,
    ) -> PreparingOptions:
        """The options as they were written; exits with code 2 where one cannot be understood.

        Raises ImageError where the file of --preparation cannot be read.
        """
        if preset is not None and preparation_file is not None:
            misuse("--preset", "and --preparation both say how the model wants its image: give one of them")
        whole = None if preparation_file is None else Preparation.load(preparation_file)
        if preset is not None:
            try:
                whole = Preparation.preset(preset)
            except ImageError as error:
                misuse("--preset", str(error))
        factor = None if scale is None else options.numbers("--scale", scale)
        if factor is not None and len(factor) != 1:
            misuse("--scale", f"{scale!r} is not one number; --std divides each channel by its own")
        shape, image_input = options.shape_and_input(input_shape, image_input)
        return PreparingOptions(
            whole=whole,
            size=None if image_size is None else options.pair("--size", image_size),
            fit=fit,
            resize=resize,
            resample=resample,
            window=None if window is None else _window(window),
            scale=None if factor is None else factor[0],
            mean=None if mean is None else options.numbers("--mean", mean),
            std=None if std is None else options.numbers("--std", std),
            channel_order=channel_order,
            image_input=image_input,
            input_shape=shape,
        )

    @property
    def given(self) -> bool:
        """True where something was said about how a picture becomes the model's numbers."""
        return self.whole is not None or any(getattr(self, name) is not None for name in ("size", *_FIELDS))

    def prepare(
        self,
        source: Image | np.ndarray,
        session: OcclusionSession,
        name: str,
        base: Preparation | None = None,
        quiet: bool = False,
    ) -> PreparedImage:
        """The image as the session's model takes it; `name` starts the message where that is impossible.

        base : what holds where nothing was said (a specification's), before what is stored in the model. Warns, unless
        `quiet`, where nothing at all says how a picture is to be prepared.
        """
        channels, size = self._channels_and_size(session)
        if not hasattr(source, "convert"):  # an array, not a picture
            self._refuse_for_arrays(name)
            return prepare_image(source, Preparation(size=size, layout=_layout(session)), channels, name)
        preparation = self.preparation(session, base)
        if not quiet:
            self.tell_of_assumed(preparation, base, session.preparation)
        return prepare_image(source, preparation, channels, name)

    def tell_of_assumed(self, preparation: Preparation, *known: Preparation | None) -> None:
        """Warn where nothing says how a picture becomes the model's numbers, neither an option nor what is `known`."""
        if all(one is None for one in (self.whole, self.scale, self.mean, self.std, *known)):
            warnings.warn(
                f"nothing says how the model wants its image; assumed: {preparation.describe()}. Say it by --preset, "
                "--preparation, or --scale, --mean and --std; krypton-onnx convert stores it in the model",
                stacklevel=3,
            )

    def preparation(self, session: OcclusionSession, base: Preparation | None = None) -> Preparation:
        """How a picture becomes what the session's model takes: the options, over --preset or --preparation, over
        `base`, over what is stored in the model, over pixel / 255.

        Its size is the model's, else that of --input-shape or --size, else the base's, else the picture's own.
        """
        channels, size = self._channels_and_size(session)
        whole = self.whole or base or session.preparation or Preparation()
        return self._changed(whole.adapted(channels, size, _layout(session)))

    def unadapted(self, stored: Preparation | None = None) -> Preparation | None:
        """The options over what is `stored`, for no model yet; None where nothing was said."""
        if not self.given:
            return None
        whole = self.whole or stored or Preparation()
        return self._changed(whole.adapted(None, self.size, whole.layout))

    def _changed(self, whole: Preparation) -> Preparation:
        """With the fields that were given one by one."""
        changes: dict[str, Any] = {name: getattr(self, name) for name in _FIELDS if getattr(self, name) is not None}
        if changes.get("fit", "crop") != "crop" and self.resize is None:
            changes["resize"] = None  # of the whole, whose crop it belongs to
        if self.resize is not None:
            changes.setdefault("fit", "crop")
        return replace(whole, **changes)

    def _channels_and_size(self, session: OcclusionSession) -> tuple[int | None, tuple[int, int] | None]:
        """Of the model's image; None where neither the model nor an option tells."""
        dims = [dim if isinstance(dim, int) else None for dim in session.image_dims[1:]]
        given: list[int | None] = [None] * 3
        options_given = []
        if self.input_shape is not None:
            given = list(self.input_shape[1:])
            options_given.append(f"--input-shape {','.join(map(str, self.input_shape))}")
        if self.size is not None:
            first = 1 if session.layout == "NCHW" else 0
            if given[first : first + 2] not in ([None, None], list(self.size)):
                raise ModelError(f"--size {_sizes(self.size)} contradicts {options_given[0]}")
            given[first : first + 2] = self.size
            options_given.append(f"--size {_sizes(self.size)}")
        if any(None not in (dim, wanted) and dim != wanted for dim, wanted in zip(dims, given, strict=True)):
            raise ModelError(
                f"{' or '.join(options_given)} contradicts the model's "
                f"input '{session.image_input}' of {','.join(map(str, session.image_dims))}"
            )
        dims = [dim if wanted is None else wanted for dim, wanted in zip(dims, given, strict=True)]
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
        given = ["--preset or --preparation"] if self.whole is not None else []
        given += [f"--{field.replace('_', '-')}" for field in _FIELDS if getattr(self, field) is not None]
        if given:
            raise ImageError(f"{name}: an array is taken as it is, so {given[0]} has no meaning for it")


def _window(text: str) -> tuple[float, float]:
    """(centre, width) from "40,400"; "-600,1500" for a lung."""
    values = options.numbers("--window", text)
    if len(values) != 2 or values[1] <= 0:
        misuse("--window", f"{text!r} is not the centre and the width of a window (40,400), the width above 0")
    return values[0], values[1]


def _sizes(values: tuple[int, int]) -> str:
    return ",".join(map(str, values))


def _layout(session: OcclusionSession) -> Layout:
    return "nhwc" if session.layout == "NHWC" else "nchw"


def tell_providers(session: OcclusionSession, quiet: bool) -> None:
    """Which execution provider was chosen, on stderr, where it was not asked for by name."""
    if session.provider_note and not quiet:
        typer.echo(f"krypton-onnx: {session.provider_note}", err=True)


def execution_providers(names: str | None) -> list[str] | None:
    """ONNX Runtime's names from "cuda,cpu"; a name that it has not is left for the session to refuse."""
    if names is None:
        return None
    import onnxruntime

    known = {name.removesuffix("ExecutionProvider").lower(): name for name in onnxruntime.get_available_providers()}
    known[AUTO] = AUTO
    words = [name.strip() for name in names.split(",") if name.strip()]
    return [known.get(word.lower().removesuffix("executionprovider"), word) for word in words]
