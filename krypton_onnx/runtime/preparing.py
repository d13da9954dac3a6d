"""What a session knows of pictures: how its model wants them, and what its classes are called; stored with it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Union

import numpy as np
import onnx

from krypton_onnx.errors import ImageError, ModelError
from krypton_onnx.images import PreparedImage, prepare_image, read_image
from krypton_onnx.images.preparation import Layout, Preparation
from krypton_onnx.images.reading import upright
from krypton_onnx.labels import check_labels
from krypton_onnx.rewriter import Source, load_model
from krypton_onnx.runtime.images import as_batch, split_feeds
from krypton_onnx.runtime.metadata import entry, set_entry

if TYPE_CHECKING:
    from PIL.Image import Image

PREPARATION_KEY = "krypton.preparation"
LABELS_KEY = "krypton.labels"

AnyImage = Union[np.ndarray, Mapping[str, Any], str, os.PathLike, "Image"]  # that OcclusionSession.explain takes


def preparation_of(given: Preparation | str | None) -> Preparation | None:
    """A preparation, or one of a preset by its name. Raises ImageError where it is neither."""
    if isinstance(given, str):
        return Preparation.preset(given)
    if not (given is None or isinstance(given, Preparation)):
        raise ImageError(f"a preparation is a Preparation or the name of a preset, got {type(given).__name__}")
    return given


def is_picture(image: object) -> bool:
    """True of a path and of a Pillow image: what has to be read or prepared."""
    return isinstance(image, (str, os.PathLike)) or (hasattr(image, "convert") and hasattr(image, "getexif"))


# -- in the model's metadata -------------------------------------------------------------------------------------------


def store_preparation(model: onnx.ModelProto, preparation: Preparation) -> None:
    """Put a preparation into a model's metadata, in place of any other."""
    set_entry(model, PREPARATION_KEY, preparation.to_json())


def stored_preparation(model: onnx.ModelProto) -> Preparation | None:
    """The one stored with a model; None where there is none. Raises ModelError where it is broken."""
    text = entry(model, PREPARATION_KEY)
    return None if text is None else _preparation_from(text)


def stored_in(model: Source) -> Preparation | None:
    """As `stored_preparation`, of a model in a file. Raises ModelError where it cannot be read."""
    return stored_preparation(load_model(model))


def store_labels(model: onnx.ModelProto, labels: Sequence[str]) -> None:
    """Put names of classes into a model's metadata, in place of any others."""
    set_entry(model, LABELS_KEY, json.dumps(list(check_labels(labels)), ensure_ascii=False))


def stored_labels(model: onnx.ModelProto) -> tuple[str, ...] | None:
    """Those stored with a model; None where there are none. Raises ModelError where they are broken."""
    text = entry(model, LABELS_KEY)
    return None if text is None else _labels_from(text)


def _preparation_from(text: str) -> Preparation:
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("it is no JSON object")
        return Preparation.from_dict(data)
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(
            f"the preparation stored with the model cannot be read ({error}): store it again (krypton-onnx convert)"
        ) from None


def _labels_from(text: str) -> tuple[str, ...]:
    try:
        data = json.loads(text)
        if not isinstance(data, list):
            raise ValueError("they are no JSON list")
        return check_labels(data)
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"the labels stored with the model cannot be read ({error}): store them again (krypton-onnx convert)"
        ) from None


# -- in a session ------------------------------------------------------------------------------------------------------


class Pictured:
    """The part of an OcclusionSession that turns pictures into arrays."""

    _given_preparation: Preparation | None
    _stored_pictures: tuple[str | None, str | None]

    @property
    def image_input(self) -> str:
        raise NotImplementedError

    @property
    def image_dims(self) -> tuple[int | str | None, ...]:
        raise NotImplementedError

    @property
    def layout(self) -> str:
        raise NotImplementedError

    def _remember(self, model: onnx.ModelProto, preparation: Preparation | str | None) -> None:
        self._given_preparation = preparation_of(preparation)
        self._stored_pictures = entry(model, PREPARATION_KEY), entry(model, LABELS_KEY)

    @property
    def preparation(self) -> Preparation | None:
        """How a picture becomes the model's input: as given, else as stored with the model, else None.

        Of the model's own size and layout. Raises ModelError where what is stored is broken.
        """
        stored = self._stored_pictures[0]
        known = self._given_preparation
        if known is None and stored is not None:
            known = _preparation_from(stored)
        return None if known is None else self.adapted(known)

    @preparation.setter
    def preparation(self, preparation: Preparation | str | None) -> None:
        self._given_preparation = preparation_of(preparation)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes that are stored with the model. Raises ModelError where they are broken."""
        stored = self._stored_pictures[1]
        return None if stored is None else _labels_from(stored)

    def adapted(self, preparation: Preparation) -> Preparation:
        """A preparation with this model's size (where it is fixed), channels and layout: Preparation.adapted."""
        channels, size = self._picture_dims()
        return preparation.adapted(channels, size, self._own_layout())

    def prepare(
        self,
        image: AnyImage,
        preparation: Preparation | None = None,
        name: str | None = None,
    ) -> PreparedImage:
        """An image as the model takes it: its array, what the eye sees of it, and the steps in words.

        image : path of a picture (PNG, JPEG, TIFF, DICOM, ...) or of a .npy file, a Pillow image; or an array, which is
            prepared already; or {input: one of these}.
        preparation : in place of the session's own. name : starts the message of an ImageError.

        Raises ImageError where the image does not fit the model, or is a picture and no preparation is known.
        """
        one: Any = image[self.image_input] if isinstance(image, Mapping) and self.image_input in image else image
        if name is None:
            name = str(one) if isinstance(one, (str, os.PathLike)) else "the image"
        if isinstance(one, (str, os.PathLike)):
            one = read_image(one)
        if not is_picture(one):
            own = as_batch(split_feeds(one, self.image_input)[0], self.image_dims, self.layout)
            return prepare_image(own, Preparation(layout=self._own_layout()), None, name)
        wanted = self.preparation if preparation is None else self.adapted(preparation)
        if wanted is None:
            raise ImageError(
                f"{name}: is a picture, and nothing says how the model wants one: give the session a preparation "
                "(preparation='imagenet', or a krypton_onnx.Preparation), store one in the model (krypton-onnx convert "
                "--preset imagenet), or give an array of floats"
            )
        return prepare_image(upright(one), wanted, self._picture_dims()[0], name)

    def _arrays(self, image: Any) -> Any:
        """What `explain` was given, a picture in it turned into an array; arrays are left as they are."""
        if isinstance(image, Mapping):
            picture = is_picture(image.get(self.image_input))
            return {**image, self.image_input: self.prepare(image).array} if picture else image
        return self.prepare(image).array if is_picture(image) else image

    def _picture_dims(self) -> tuple[int | None, tuple[int, int] | None]:
        """Channels, and (height, width); None where the model leaves them open."""
        dims = [dim if isinstance(dim, int) else None for dim in self.image_dims[1:]]
        channels, height, width = dims if self.layout == "NCHW" else (dims[2], dims[0], dims[1])
        return channels, None if height is None or width is None else (height, width)

    def _own_layout(self) -> Layout:
        return "nhwc" if self.layout == "NHWC" else "nchw"
