"""What an approximate map is computed from, rung by rung: plain data.

A setting is a list of fidelities, the cheapest first and the exact one last, and a ladder of rungs. A rung says, for
every fidelity, on which lattice it is sampled (lattice.py; None: not at all). Its map is the cheapest fidelity,
interpolated, plus the residual of the next better one, interpolated, and so on: the residual of a cheap map is smoother
than the map itself, so a few better scores correct it everywhere. Krypton's drill-down (section 4.2) is the case of one
fidelity and two rungs.
"""

from __future__ import annotations

from dataclasses import dataclass

from krypton_onnx.runtime.fidelity import EXACT, Fidelity

Rung = tuple[float | None, ...]  # the lattice level of every fidelity

CORRECTION = 5.0  # every 8th row and 4th column, in turn
FROZEN_CORRECTIONS = (CORRECTION, 4.0, 3.0)  # a frozen map is further off, and its residual is all that tells how far
SMALLEST_MAP = 11  # cells: below SSIM's window, maps are computed exactly


@dataclass(frozen=True)
class Setting:
    """fidelities : cheapest first, the exact one last. rungs : each at least as fine as the one before."""

    fidelities: tuple[Fidelity, ...]
    rungs: tuple[Rung, ...]

    def __post_init__(self) -> None:
        if not self.fidelities or not self.fidelities[-1].exact:
            raise ValueError("the last fidelity of a setting must be the exact one")
        if any(len(rung) != len(self.fidelities) for rung in self.rungs):
            raise ValueError("every rung names one lattice level a fidelity")


def ladder(cheap: Fidelity, correction: float | None = None) -> Setting:
    """The candidate setting of one cheap fidelity, from a coarse lattice of it to exact scores at half of the cells.

    One that freezes goes on to all cells: exact scores may cost several times as much as it does.
    correction : level of the exact scores that correct the cheap ones from the first rung on; None: none do, until the
    cheap ones are known nearly everywhere.
    """
    if cheap.exact:
        levels = (3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, 0.5)
        return Setting((EXACT,), tuple((level,) for level in levels))
    steps = (3.0, 2.5, 2.0, 1.75, 1.5, 1.25, 1.0, 0.75, *((0.5, 0.0) if cheap.frozen else ()))
    first = tuple((level, correction) for level in steps)
    finer = (level for level in (4.0, 3.0, 2.0, 1.5, 1.0) if correction is None or level < correction)
    better = tuple((0.0 if cheap.frozen else 0.5, level) for level in finer)
    return Setting((cheap, EXACT), (*first, *better))


def ladders(cheap: Fidelity) -> tuple[Setting, ...]:
    """With and without a correction; it is worth its cost where the cheap fidelity is far from exact."""
    if cheap.exact:
        return (ladder(cheap),)
    corrections = FROZEN_CORRECTIONS if cheap.frozen else (CORRECTION,)
    return ladder(cheap), *(ladder(cheap, correction) for correction in corrections)
