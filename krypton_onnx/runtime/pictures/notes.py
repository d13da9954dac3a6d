"""What else to know about a picture, in the small print below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from krypton_onnx.runtime.pictures import words

if TYPE_CHECKING:
    from krypton_onnx.runtime.heat_map import HeatMap
    from krypton_onnx.runtime.pictures.look import Look


def sentences(heat_map: HeatMap, look: Look, missing: float, drawn: int, to_scale: bool) -> list[str]:
    """missing: the share of what is hatched. drawn: how many classes are shown."""
    height, width = heat_map.patch
    if look.per_pixel:
        said = [f"Each pixel: mean over the {height} x {width} px patches that hide it."]
    else:
        said = [f"Each cell: the {height} x {width} px around its centre are hidden."]
    if missing > 0 and look.per_pixel:
        said.append(f"Hatched: no patch computed hides them ({words.share(missing)} of the pixels).")
    elif missing > 0:
        said.append(f"Hatched: not computed ({words.share(missing)} of the positions).")
    if heat_map.estimated_ssim is not None:
        said.append(f"Approximate, similarity to the exact map (SSIM) about {heat_map.estimated_ssim:.2f}.")
    elif heat_map.mode == "approximate":
        said.append("Approximate.")
    if not heat_map.complete:
        said.append("Cut short: not all of it was computed.")
    if not to_scale:
        said.append("Not to scale.")
    if look.show != "predicted" and look.target is None and len(heat_map.targets) > drawn:
        said.append(f"The first {drawn} of {len(heat_map.targets)} classes.")
    return said
