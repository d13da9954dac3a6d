"""An explanation as data: everything but the images, saved as TOML, replayed by the API and by the command line."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomlkit

from krypton_onnx.digest import model_digest
from krypton_onnx.errors import ImageError, KryptonError, ModelError, one_line
from krypton_onnx.explanation import Explanation, file_digest
from krypton_onnx.files import atomic_write
from krypton_onnx.images import Preparation, PreparedImage, read_image
from krypton_onnx.mask_files import patch_shape
from krypton_onnx.runtime.fills.shapes import SHAPES
from krypton_onnx.runtime.occlusion import Occlusion
from krypton_onnx.runtime.scores import Scored
from krypton_onnx.runtime.session import OcclusionSession
from krypton_onnx.specification_keys import KEYS, MODEL, OCCLUSION, PREPARATION, TABLES, meant, unknown

if TYPE_CHECKING:
    from PIL.Image import Image

    from krypton_onnx.runtime.heat_map import HeatMap

FORMAT = 1
_HEADER = "# Replay: krypton-onnx explain --spec THIS_FILE IMAGE -o map.png\n"
_FIELDS = {key.field: key for key in KEYS if key.table != PREPARATION}
_OF_THE_SESSION = ("model", "model_sha256", "patch_shape_sha256", "image_input", "providers", "strict", "preparation")


@dataclass(frozen=True)
class ExplanationSpec:
    """What one explanation asks for, of any image. Saved and replayed, it gives the same map.

    model : path of an ONNX model, original or rewritten; kept absolute. A tuning is stored in the rewritten model, so a
        replayed approximate map goes by it too.
    model_sha256 : of its content (`krypton_onnx.digest`); another content is refused. None: not looked at, and written
        by `save`.
    preparation : how a picture becomes the model's input; None where images are arrays, prepared already.
    image_input, providers, strict : as for OcclusionSession. The other fields are as for OcclusionSession.explain;
        a fill is a word, a number or one a channel, or several of these, and a score a name, because functions and
        arrays cannot be written to a file.
    patch_shape : "rectangle", "ellipse" or the path of a mask (`krypton_onnx.mask_files`); kept absolute.
    patch_shape_sha256 : of the mask's content, as model_sha256 of the model's.

    Every value is checked: raises ImageError where one cannot be right, whatever the model and the image.
    (What a tuning holds for, `runtime.tuning.Specification`, is the part of this that the quality of a map depends on.)
    """

    model: str
    model_sha256: str | None = None
    image_input: str | None = None
    preparation: Preparation | None = None
    patch: tuple[int, int] | int = (16, 16)
    stride: tuple[int, int] | int = (4, 4)
    fill: float | str | tuple[float | str | tuple[float, ...], ...] = 0.0
    fill_space: str = "model"
    fill_samples: int = 8
    patch_shape: str = "rectangle"
    patch_shape_sha256: str | None = None
    region: tuple[int, int, int, int] | None = None
    score: str = "output"
    activation: str | None = None
    output: str | None = None
    targets: int | tuple[int, ...] | None = None
    top: int | None = None
    mode: str = "exact"
    min_ssim: float | None = None
    complete_exactly: bool = True
    seed: int = 0
    strict: bool = False
    providers: tuple[str, ...] | None = None
    batch_size: int | None = None
    time_budget: float | None = None
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, os.PathLike):
            object.__setattr__(self, "model", os.fspath(self.model))
        for name, key in _FIELDS.items():
            object.__setattr__(self, name, _checked(self, name, key.read))
        object.__setattr__(self, "model", os.path.abspath(self.model))
        if self.patch_shape not in SHAPES:
            object.__setattr__(self, "patch_shape", os.path.abspath(self.patch_shape))
        if not (self.preparation is None or isinstance(self.preparation, Preparation)):
            raise ImageError(f"preparation must be a Preparation or None, got {type(self.preparation).__name__}")
        Scored(self.score, self.activation, self.output)  # which raises where they contradict each other
        if self.top is not None and self.targets is not None:
            raise ImageError("top and targets are both given: name the classes, or ask for the best ones")
        if self.min_ssim is not None and self.mode != "approximate":
            raise ImageError(f"min_ssim has no meaning in mode={self.mode!r}: only an approximate map is judged by it")

    # -- replaying ---------------------------------------------------------------------------------------------------

    def session(self) -> OcclusionSession:
        """A session of the model. Raises ModelError where its content is not the one that was specified."""
        if self.model_sha256 is not None and model_digest(self.model) != self.model_sha256:
            raise ModelError(
                f"{self.model}: is not the model that was specified, its content differs (SHA-256): give that one, "
                "or name this one anew (the argument MODEL; model_sha256=None)"
            )
        return OcclusionSession(
            self.model, providers=self.providers, image_input=self.image_input, strict=self.strict,
            preparation=self.preparation,
        )  # fmt: skip

    def explain(
        self,
        image: str | os.PathLike[str] | Image | np.ndarray | Mapping[str, np.ndarray],
        session: OcclusionSession | None = None,
        progress: Callable[[int, int], None] | None = None,
        on_update: Callable[[HeatMap], None] | None = None,
    ) -> HeatMap:
        """The map of one image, as OcclusionSession.explain gives it.

        image : the path of a picture (or a .npy file) or a Pillow image, which is prepared; or what
            OcclusionSession.explain takes, as it is.
        session : what `session()` returned, for more than one image; None makes one.

        Raises ImageError, ModelError as OcclusionSession.explain, and ImageError where a picture comes without a
        preparation.
        """
        session = self.session() if session is None else session
        _, feeds = self._prepared(image, session)
        return session.explain(feeds, **self.arguments(), progress=progress, on_update=on_update)

    def explanation(
        self,
        image: str | os.PathLike[str] | Image | PreparedImage | np.ndarray | Mapping[str, np.ndarray],
        session: OcclusionSession | None = None,
        labels: Sequence[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
        on_update: Callable[[HeatMap], None] | None = None,
        source: str | None = None,
    ) -> Explanation:
        """The map of one image with all that belongs to it, to be drawn, reported and filed.

        image, session, progress, on_update : as for `explain`; or an image that is prepared already. labels : names of
        all classes; None: those stored with the model. source : name of the image, where it is not a path.

        Raises as `explain`.
        """
        session = self.session() if session is None else session
        path = image if isinstance(image, (str, os.PathLike)) else None
        prepared, feeds = self._prepared(image, session)
        digest = None if path is None else file_digest(path)
        asked = self.arguments()
        occlusion = Occlusion(**{one.name: asked[one.name] for one in fields(Occlusion)})
        began = time.perf_counter()
        heat_map = session.explain(feeds, **asked, progress=progress, on_update=on_update)
        seconds = time.perf_counter() - began

        def occluded(tops: np.ndarray, lefts: np.ndarray) -> np.ndarray:
            patches = session.question(feeds, occlusion).patches
            shown = prepared.to_pixels(patches.mean(patches(np.asarray(tops), np.asarray(lefts))))
            return np.broadcast_to(shown, (len(tops), *shown.shape[1:]))

        names = labels if labels is not None else session.labels
        return Explanation(
            heat_map, self.with_digest(), source or (str(path) if path is not None else "an array"), digest,
            prepared.shown, prepared.steps, occluded, seconds, datetime.now(UTC).isoformat(timespec="seconds"),
            None if names is None else tuple(names),
        )  # fmt: skip

    def occlusion(self) -> Occlusion:
        """What hides the image, and where: for OcclusionSession.question."""
        arguments = self.arguments()
        return Occlusion(**{one.name: arguments[one.name] for one in fields(Occlusion)})

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of OcclusionSession.explain. Raises ImageError where the file of a mask is none."""
        given = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in _OF_THE_SESSION}
        shape = patch_shape(self.patch_shape)
        if self._masked and self.patch_shape_sha256 not in (None, file_digest(self.patch_shape)):
            raise ImageError(
                f"{self.patch_shape}: is not the mask that was specified, its content differs: give that one, "
                "or name this one anew (--patch-shape; patch_shape_sha256=None)"
            )
        return given | {"patch_shape": shape}

    @property
    def mask(self) -> Path | None:
        """The file of the patch shape, where that is no word."""
        return None if self.patch_shape in SHAPES else Path(self.patch_shape)

    @property
    def _masked(self) -> bool:
        return self.mask is not None

    def _prepared(
        self, image: Any, session: OcclusionSession
    ) -> tuple[PreparedImage, np.ndarray | Mapping[str, np.ndarray]]:
        """The image, and what OcclusionSession.explain takes of it."""
        if isinstance(image, PreparedImage):
            return image, image.array
        name = str(image) if isinstance(image, (str, os.PathLike)) else "the image"
        if isinstance(image, (str, os.PathLike)):
            image = read_image(image)
        if hasattr(image, "convert") and session.preparation is None:
            self.preparation_of_pictures(name)
        own = session.preparation
        if self.preparation is not None and own is not None and session.adapted(self.preparation) != own:
            raise ImageError(
                f"{name}: the session has another preparation than the specification: give one that session() made"
            )
        prepared = session.prepare(image, self.preparation, name)
        if isinstance(image, Mapping):
            return prepared, {**image, session.image_input: prepared.array}
        return prepared, prepared.array

    def preparation_of_pictures(self, name: str = "the image") -> Preparation:
        """The preparation. Raises ImageError where there is none: the specification is one of arrays."""
        if self.preparation is None:
            raise ImageError(
                f"{name}: is a picture, but the specification does not say how to prepare one: add a preparation "
                "(--mean, --std, --scale or --channel-order), or give a .npy array"
            )
        return self.preparation

    # -- files -------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> ExplanationSpec:
        """Write it to `path` as TOML, atomically; what `load` then returns.

        A model or mask in the folder of `path` or below is written relative to it, so that they can be moved together.
        Raises KryptonError where `path` cannot be written, ModelError where the model cannot be read.
        """
        pinned = self.with_digest()
        text = pinned.to_toml(Path(path).parent)
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return pinned

    @staticmethod
    def load(path: str | os.PathLike[str]) -> ExplanationSpec:
        """The specification in a TOML file; relative paths of model and mask are relative to the file.

        Raises KryptonError with one line that names the file, the table and the key where something is wrong.
        """
        path = Path(path)
        try:
            if path.exists() and not path.is_file():  # a pipe or a device may have no end
                raise KryptonError(f"{path}: is not a regular file; give the path of a specification (.toml)")
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise KryptonError(f"{path}: no such file; give the path of a specification (.toml)") from None
        except UnicodeDecodeError:
            raise KryptonError(f"{path}: not a specification (it is no UTF-8 text)") from None
        except OSError as error:
            raise KryptonError(f"{path}: cannot be read: {error.strerror or error}") from None
        return ExplanationSpec.from_toml(text, str(path), path.parent)

    def with_digest(self) -> ExplanationSpec:
        """The same with the digests of model and mask. Raises ModelError, KryptonError where one cannot be read."""
        model, mask = self.model_sha256, self.patch_shape_sha256
        if self._masked:
            mask = file_digest(self.patch_shape) if mask is None else mask
        return replace(
            self, model_sha256=model_digest(self.model) if model is None else model,
            patch_shape_sha256=mask if self._masked else None,
        )  # fmt: skip

    def to_toml(self, folder: str | os.PathLike[str] | None = None) -> str:
        """As text. A model or mask inside `folder` is written relative to it."""
        return f"{_HEADER}\n{tomlkit.dumps(self.to_dict(folder))}"

    @staticmethod
    def from_toml(
        text: str, where: str = "the specification", folder: str | os.PathLike[str] | None = None
    ) -> ExplanationSpec:
        """From text; `where` starts the message of a KryptonError, and a relative path is relative to `folder`."""
        try:
            data = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise KryptonError(f"{where}: is not valid TOML: {one_line(error)}") from None
        return ExplanationSpec.from_dict(data, where, folder)

    def to_dict(self, folder: str | os.PathLike[str] | None = None) -> dict[str, Any]:
        """As tables of plain values, as TOML (or JSON) holds them; what is None is left out."""
        tables: dict[str, Any] = {"format": FORMAT, **{table: {} for table in TABLES}}
        for key in KEYS:
            owner = self.preparation if key.table == PREPARATION else self
            value = None if owner is None else getattr(owner, key.field)
            if value is not None:
                tables[key.table][key.name] = _plain(value)
        if folder is not None:
            tables[MODEL]["path"] = _relative(self.model, folder)
            if self.patch_shape not in SHAPES:
                tables[OCCLUSION]["patch_shape"] = _relative(self.patch_shape, folder)
        return {name: table for name, table in tables.items() if table != {}}

    @staticmethod
    def from_dict(
        data: Mapping[str, Any], where: str = "the specification", folder: str | os.PathLike[str] | None = None
    ) -> ExplanationSpec:
        """From tables, strictly: raises KryptonError where one has a key too many or a value that cannot be right."""
        _check_tables(data, where)
        values: dict[str, dict[str, Any]] = {PREPARATION: {}, "": {}}
        for table in TABLES:
            names = {key.name: key for key in KEYS if key.table == table}
            for name, value in data.get(table, {}).items():
                if name not in names:
                    raise KryptonError(f"{where}: {name!r} {unknown(table, name)}")
                key = names[name]
                try:
                    read = key.read(value)
                except ValueError as error:
                    raise KryptonError(f"{where}: [{table}] {name} {error}") from None
                values[table if table == PREPARATION else ""][key.field] = read
        given = values[""]
        if "model" not in given:
            raise KryptonError(f"{where}: [{MODEL}] path is missing: the path of the ONNX model")
        given["model"] = os.path.join(folder or "", given["model"])
        if given.get("patch_shape", "rectangle") not in SHAPES:
            given["patch_shape"] = os.path.join(folder or "", given["patch_shape"])
        table = PREPARATION
        try:
            preparation = Preparation(**values[PREPARATION]) if PREPARATION in data else None
            table = "computing"
            return ExplanationSpec(**given, preparation=preparation)
        except ImageError as error:
            raise KryptonError(f"{where}: [{table}] {error}") from None


def _plain(value: Any) -> Any:
    """Tuples as lists, at any depth."""
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _relative(path: str, folder: str | os.PathLike[str]) -> str:
    """A path inside `folder` relative to it; any other as it is."""
    inside, root = Path(path), Path(os.path.abspath(folder))
    return inside.relative_to(root).as_posix() if inside.is_relative_to(root) else path


def _checked(owner: object, name: str, read: Callable[[Any], Any]) -> Any:
    """A field's value, None or as `read` keeps it; only a field that may be None may be."""
    value = getattr(owner, name)
    if value is None and type(owner).__dataclass_fields__[name].default is None:  # type: ignore[attr-defined]
        return None
    try:
        return read(value)
    except ValueError as error:
        raise ImageError(f"{name} {error}") from None


def _check_tables(data: Mapping[str, Any], where: str) -> None:
    """Raises KryptonError where the outermost level is not a format and known tables."""
    for name, value in data.items():
        if name == "format":
            continue
        if name not in TABLES:
            homes: Sequence[str] = [key.table for key in KEYS if key.name == name]
            hint = f"; it belongs in [{homes[0]}]" if homes else meant(name, TABLES, "[{}]")
            raise KryptonError(
                f"{where}: {name!r} is not a table of a specification{hint or ', which are: ' + ', '.join(TABLES)}"
            )
        if not isinstance(value, dict):
            raise KryptonError(f"{where}: {name!r} must be a table: write [{name}] and its keys below")
    if data.get("format") != FORMAT or isinstance(data["format"], bool):
        have = repr(data["format"]) if "format" in data else "missing"
        raise KryptonError(f"{where}: format is {have}; this version reads specifications of format = {FORMAT}")
