"""What a request may ask for: the fields of a specification that name no file and cost no more than is bounded."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from krypton_onnx.runtime.fills.words import WORDS

_NUMBER = r"-?[0-9]{1,9}(\.[0-9]{1,9})?"
_PIXELS = r"[1-9][0-9]{0,3}"
_EDGE = r"[0-9]{1,5}"
Pair = Annotated[str, StringConstraints(pattern=rf"^{_PIXELS}(,{_PIXELS})?$")]
OneFill = Annotated[
    str, StringConstraints(pattern=rf"^({'|'.join(WORDS)}|{_NUMBER}(,{_NUMBER}){{0,3}})$", max_length=100)
]
ClassWord = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\S")]
Format = Literal["json", "png", "npz", "html"]

MOST_TARGETS, MOST_FILLS = 16, 4


class ExplainOptions(BaseModel):
    """Options of one explanation, as in the specification and on the command line; what is left out is the server's."""

    model_config = ConfigDict(extra="forbid")

    format: Format | None = Field(None, description="The answer, in place of the header Accept.")
    deadline: float | None = Field(
        None, gt=0, le=3600, allow_inf_nan=False,
        description="Seconds after which the map as far as it is comes back; at most the server's own.",
    )  # fmt: skip
    patch: Pair | None = Field(None, description="Size of the hidden patch in pixels: 16, or height,width.")
    stride: Pair | None = Field(None, description="Step from one position to the next: 4, or vertical,horizontal.")
    patch_shape: Literal["rectangle", "ellipse"] | None = Field(None, description="Shape of the patch.")
    fill: list[OneFill] | None = Field(
        None, min_length=1, max_length=MOST_FILLS,
        description=f"What hides the pixels: a number, one a channel (0.5,0.4,0.4) or a word ({', '.join(WORDS)}). "
        "Given several times, the scores are averaged.",
    )  # fmt: skip
    fill_space: Literal["model", "pixel"] | None = Field(
        None, description="What numbers of fill are: the model's own, or pixel values 0 to 255."
    )
    fill_samples: int | None = Field(None, ge=1, le=32, description="Patches that fill=surroundings averages over.")
    region: Annotated[str, StringConstraints(pattern=rf"^{_EDGE}(,{_EDGE}){{3}}$")] | None = Field(
        None, description="Explain only there: top,left,bottom,right in pixels of the model's input."
    )
    target: list[ClassWord] | None = Field(
        None, min_length=1, max_length=MOST_TARGETS,
        description="A class by id or name; may be given several times. Default: the one that is predicted.",
    )  # fmt: skip
    top: int | None = Field(None, ge=1, le=MOST_TARGETS, description="Or the so many classes of the largest scores.")
    score: Literal["output", "logit", "margin", "log-odds"] | None = Field(None, description="Which number of a class.")
    activation: Literal["softmax", "sigmoid"] | None = Field(
        None, description="Of a model that ends in raw logits: what makes probabilities of them."
    )
    mode: Literal["exact", "approximate"] | None = Field(None, description="approximate needs a model that is tuned.")
    min_ssim: float | None = Field(
        None, gt=0, le=1, allow_inf_nan=False, description="SSIM of an approximate map to the exact one."
    )
    seed: int | None = Field(None, ge=0, le=2**31 - 1, description="Of what is drawn at random.")

    @model_validator(mode="after")
    def _agree(self) -> ExplainOptions:
        if self.target is not None and self.top is not None:
            raise ValueError("target and top both say which classes: give one of them")
        if self.region is not None:
            top, left, bottom, right = map(int, self.region.split(","))
            if top >= bottom or left >= right:
                raise ValueError("region must be top,left,bottom,right with top < bottom and left < right")
        return self

    def fields(self) -> dict[str, Any]:
        """Those of a specification that were given, as JSON holds them; targets as words."""
        given = self.model_dump(exclude_none=True, exclude={"format", "deadline", "target"})
        for name in ("patch", "stride"):
            if name in given:
                numbers = [int(one) for one in given[name].split(",")]
                given[name] = [numbers[0], numbers[-1]]
        if "region" in given:
            given["region"] = [int(one) for one in given["region"].split(",")]
        if "fill" in given:
            fills = [_fill(one) for one in given["fill"]]
            # A list of numbers alone would be one a channel.
            several = [one if isinstance(one, (str, list)) else [one] for one in fills]
            given["fill"] = fills[0] if len(fills) == 1 else several
        if self.target is not None:
            given["targets"] = list(self.target)
        return given


LISTS = frozenset(
    name for name, field in ExplainOptions.model_fields.items() if "list" in str(field.annotation)
)  # that may be given several times
FILES = re.compile(r"^(image|file)$")  # names of the part of a form that holds the image


def _fill(text: str) -> str | float | list[float]:
    if text in WORDS:
        return text
    values = [float(one) for one in text.split(",")]
    return values[0] if len(values) == 1 else values
