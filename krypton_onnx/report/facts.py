"""How an explanation was computed, and what it means, in words: all of it that a reader of a report needs."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import krypton_onnx
from krypton_onnx.runtime.pictures.words import number, share

if TYPE_CHECKING:
    from krypton_onnx.explanation import Explanation
    from krypton_onnx.specification import ExplanationSpec

# Characters that turn the direction of text, also of what is not theirs.
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Summary:
    """lines : what was explained, for the head of the page. warnings : what a reader must not overlook."""

    lines: list[str]
    warnings: list[str]


def plain(text: object, keep: str = "") -> str:
    """Text that shows what it is: characters that control a terminal or a page, or are half a character, become a mark.

    keep : control characters that stay.
    """
    return "".join(one if one in keep else _seen(one) for one in str(text))


def _seen(character: str) -> str:
    if character in _TURNS:
        return ""
    if character in "\t\n\r":
        return " "
    return "\N{REPLACEMENT CHARACTER}" if unicodedata.category(character) in ("Cc", "Cs", "Co", "Cn") else character


def source_name(explanation: Explanation) -> str:
    """The name of the image without its folders, which may tell more than a reader should know."""
    return plain(Path(explanation.source).name or explanation.source)


def summary(explanation: Explanation) -> Summary:
    heat_map = explanation.heat_map
    lines = [
        _model_name(explanation.spec),
        f"{'exact' if heat_map.mode == 'naive' else heat_map.mode} map",
        f"patch {_by(heat_map.patch)} px, stride {_by(heat_map.stride)} px",
        _day(explanation.made),
    ]
    warnings = []
    if heat_map.mode == "approximate":
        about = "its similarity to the exact map was not estimated"
        if heat_map.estimated_ssim is not None:
            about = f"its similarity to the exact map (SSIM) is estimated at {heat_map.estimated_ssim:.3f}"
        warnings.append(f"This map is approximate: {about}.")
    if not heat_map.complete:
        done = share(float(heat_map.computed.mean()))
        warnings.append(f"This map is not complete: {done} of the positions were computed before it was cut short.")
    if heat_map.note:
        warnings.append(_sentence(plain(heat_map.note)))
    return Summary(lines, warnings)


def limits_of_a_map(explanation: Explanation) -> list[str]:
    """What a map is, and what it is not."""
    heat_map = explanation.heat_map
    return [
        f"Each cell tells by how much the model's {plain(heat_map.score_name)} for a class falls (red) or rises (blue) "
        f"when the {_by(heat_map.patch)} pixels around it are replaced by the fill.",
        "It does not tell what is in the image, nor whether the model is right; and another patch, stride or fill "
        "gives another map.",
    ]


def facts(explanation: Explanation) -> list[dict[str, Any]]:
    """Sections {title, rows}; a row is {name, value}, or {name, steps} for a list in order. Digests have code."""
    heat_map, spec = explanation.heat_map, explanation.spec
    height, width = explanation.picture.shape[:2]
    positions = heat_map.computed.size
    computed = int(heat_map.computed.sum())
    image = [
        _row("File", source_name(explanation)),
        _code("SHA-256", explanation.source_sha256 or "none: the image was an array"),
        _row("Size explained", f"{width} x {height} px (width x height)"),
        {"name": "Preparation", "steps": [plain(step) for step in explanation.steps]},
    ]
    model = [
        _row("File", _model_name(spec)),
        _code("SHA-256", spec.model_sha256 or "not known"),
        *([_row("Image input", spec.image_input)] if spec.image_input else []),
        *([_row("Output", spec.output)] if spec.output else []),
        _row("krypton-onnx", krypton_onnx.__version__),
        _row("ONNX Runtime", _runtime()),
        *([_row("Providers", ", ".join(spec.providers))] if spec.providers else []),
    ]
    question = [
        _row("Patch", f"{_by(heat_map.patch)} px (height x width){_shape(spec)}"),
        _row("Stride", f"{_by(heat_map.stride)} px"),
        _row("Fill", fill_words(spec)),
        _row("Region", _region(spec)),
        _row("Score", heat_map.score_name + (f" ({spec.activation} applied)" if spec.activation else "")),
        _row("Classes", _classes(spec)),
    ]  # fmt: skip
    computing = [
        _row("Mode", {"exact": "exact (incremental inference)", "naive": "naive (full inference)"}.get(
            heat_map.mode, heat_map.mode)),
        _row("Positions computed", f"{computed:,} of {positions:,} ({share(computed / positions)})"),
        *_similarity(explanation),
        _row("Complete", "yes" if heat_map.complete else "no: cut short"),
        _row("Time taken", _duration(explanation.seconds)),
        _row("Made", _moment(explanation.made)),
        _row("Note", heat_map.note or "none"),
    ]  # fmt: skip
    return [
        {"title": "Image", "rows": image},
        {"title": "Model", "rows": model},
        {"title": "Occlusion and score", "rows": question},
        {"title": "Computation", "rows": computing},
    ]


def fill_words(spec: ExplanationSpec) -> str:
    """What stands in the patch's place, and in which numbers that is said."""
    fills = spec.fill if isinstance(spec.fill, tuple) and not _one_a_channel(spec.fill) else (spec.fill,)
    words = []
    for fill in fills:
        if isinstance(fill, str):
            samples = f" ({spec.fill_samples} samples)" if fill == "surroundings" else ""
            words.append(f"{fill}{samples}")
        else:
            numbers = ", ".join(f"{one:g}" for one in (fill if isinstance(fill, tuple) else (fill,)))
            space = "pixel value" if spec.fill_space == "pixel" else "in the model's own numbers"
            words.append(f"{space} {numbers}" if spec.fill_space == "pixel" else f"{numbers} {space}")
    return words[0] if len(words) == 1 else f"mean over {len(words)}: {'; '.join(words)}"


def _one_a_channel(fill: tuple[Any, ...]) -> bool:
    return all(isinstance(one, (int, float)) for one in fill)


def _similarity(explanation: Explanation) -> list[dict[str, Any]]:
    heat_map, spec = explanation.heat_map, explanation.spec
    if heat_map.mode != "approximate":
        return []
    wanted = "as tuned" if spec.min_ssim is None else f"at least {spec.min_ssim:g}"
    rows = [_row("SSIM wanted", wanted)]
    for name, value in (("SSIM expected", heat_map.expected_ssim), ("SSIM estimated", heat_map.estimated_ssim)):
        rows.append(_row(name, "not known" if value is None else f"{value:.3f}"))
    return rows


def _shape(spec: ExplanationSpec) -> str:
    if spec.patch_shape == "rectangle":
        return ""
    return ", ellipse" if spec.patch_shape == "ellipse" else f", mask {Path(spec.patch_shape).name}"


def _region(spec: ExplanationSpec) -> str:
    if spec.region is None:
        return "whole image"
    top, left, bottom, right = spec.region
    return f"{left} to {right} across, {top} to {bottom} down (pixels)"


def _classes(spec: ExplanationSpec) -> str:
    if spec.targets is not None:
        ids = spec.targets if isinstance(spec.targets, tuple) else (spec.targets,)
        return "named: " + ", ".join(str(one) for one in ids)
    best = spec.top or 1
    return f"the {best} best of the whole image" if best > 1 else "the one predicted for the whole image"


def _model_name(spec: ExplanationSpec) -> str:
    return plain(Path(spec.model).name)


def _runtime() -> str:
    for name in _RUNTIMES:
        try:
            return f"{version(name)} ({name})" if name != _RUNTIMES[0] else version(name)
        except PackageNotFoundError:
            continue
    return "not installed where this page was made"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min {rest} s" if hours else f"{minutes} min {rest} s"


def _moment(made: str) -> str:
    """ISO 8601 as "2026-11-22 23:51:07 UTC"; another zone as its distance from UTC."""
    try:
        moment = datetime.fromisoformat(made)
    except ValueError:
        return made
    return f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()


def _day(made: str) -> str:
    return _moment(made).split(" ")[0]


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _row(name: str, value: object) -> dict[str, Any]:
    return {"name": name, "value": plain(value)}


def _code(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "value": plain(value), "code": True}
