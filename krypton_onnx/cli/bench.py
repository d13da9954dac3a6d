"""`krypton-onnx bench`: what incremental inference saves for this model, on this machine."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from krypton_onnx.cli import options
from krypton_onnx.cli.console import show_warning, sizes
from krypton_onnx.cli.grouping import grouped
from krypton_onnx.cli.groups import PreparationOptions, RunOptions
from krypton_onnx.cli.measuring import Measurement, Plan, measure
from krypton_onnx.cli.progress import progress_bar

if TYPE_CHECKING:
    import numpy as np
    from rich.table import Table

    from krypton_onnx import OcclusionSession
    from krypton_onnx.cli.preparing import PreparingOptions

ROUNDS = 3
PILOT = 3  # rows and columns of positions, to find out how many there is time for
NAMES = {"naive": "naive (full inference)", "exact": "exact (incremental)", "approximate": "approximate"}


@grouped
def bench(
    *,
    model: options.Model,
    image: Annotated[
        Path | None,
        typer.Argument(
            metavar="IMAGE", help="A picture or .npy array. Default: a random image of the model's size.",
            show_default=False,
        ),
    ] = None,
    patch: options.Patch = "16",
    stride: options.Stride = "4",
    score: options.Score = "output",
    model_output: options.ModelOutput = None,
    most: Annotated[
        str, typer.Option("--time", metavar="1m", help="About how long it may take; so many positions are timed.")
    ] = "1m",
    json: options.Json = False,
    quiet: options.Quiet = False,
    preparation: PreparationOptions,
    running: RunOptions,
) -> None:
    """Time exact against naive maps of a model on this machine, and compare their scores.

    All ways are timed in turns, and medians are told. Naive maps take as long a position however many there are, so
    they are timed on some, spread over the grid. Of a tuned model (krypton-onnx tune), approximate maps are timed too.

    Example: krypton-onnx bench model.onnx photo.jpg --preset imagenet
    """
    seconds = options.seconds("--time", most)
    size, step = options.pair("--patch", patch), options.pair("--stride", stride)
    preparing = preparation.read()
    arguments = {"score": score, "output": model_output, "memory_budget": running.memory, "seed": running.seed}

    from krypton_onnx.images import read_image

    source = None if image is None else read_image(image)

    import krypton_onnx as kx
    from krypton_onnx.cli.preparing import execution_providers, tell_providers

    session = kx.OcclusionSession(
        model, providers=execution_providers(running.providers), image_input=preparing.image_input,
        strict=running.strict,
    )  # fmt: skip
    tell_providers(session, quiet)
    if source is None:
        array = _random_image(session, preparing, running.seed)
    else:
        array = preparing.prepare(source, session, str(image), quiet=quiet).array
    with progress_bar("measuring", quiet, "runs") as progress:
        plan = _plan(session, array, size, step, seconds, arguments)
        measured = measure(session, array, plan, progress)
    if json:
        from json import dumps

        typer.echo(dumps(_told(measured, plan, image), allow_nan=False))
    elif not quiet:
        _show(measured, plan, array.shape, image)


def _random_image(session: OcclusionSession, preparing: PreparingOptions, seed: int) -> np.ndarray:
    """float32 (1, ...) as the model takes it, uniform in [0, 1). Raises ModelError where its size is not known."""
    import numpy as np

    from krypton_onnx.errors import ModelError

    dims: list[int | str | None] = list(session.image_dims[1:])
    if preparing.size is not None:
        first = 1 if session.layout == "NCHW" else 0
        dims[first : first + 2] = preparing.size
    given = preparing.input_shape[1:] if preparing.input_shape is not None else (None, None, None)
    dims = [wanted if wanted is not None else dim for dim, wanted in zip(dims, given, strict=True)]
    known = [dim for dim in dims if isinstance(dim, int)]
    if len(known) != len(dims):
        raise ModelError(
            f"the model leaves the size of its image input '{session.image_input}' open: give an image, or "
            f"--input-shape {session.image_input}:1,3,224,224"
        )
    return np.random.default_rng(seed).random((1, *known), np.float32)


def _plan(
    session: OcclusionSession,
    image: np.ndarray,
    patch: tuple[int, int],
    stride: tuple[int, int],
    seconds: float,
    arguments: dict[str, Any],
) -> Plan:
    """As many positions as can be timed in about so long, found out on a few."""
    from krypton_onnx.runtime.grid import make_grid

    frame = image.shape[2:] if session.layout == "NCHW" else image.shape[1:3]
    grid = make_grid((int(frame[0]), int(frame[1])), patch, stride)
    few = max(1, math.ceil(max(grid.shape) / PILOT))
    pilot = Plan(patch, stride, few, 1, (), arguments)
    each = {}
    for mode in ("exact", "naive"):
        pilot.run(session, image, mode, few)  # compiles, and allocates
        spent, heat_map = pilot.run(session, image, mode, few)
        each[mode] = spent / heat_map.computed.size
    rounds = ROUNDS + 1  # one to get warm
    affordable = seconds / 2 / rounds / (each["exact"] + each["naive"])
    every = min(few, max(1, math.ceil(math.sqrt(grid.positions / max(1.0, affordable)))))
    # A few positions cost more than as many of a whole map.
    whole = ["exact"] if each["exact"] * grid.positions * ROUNDS <= 0.8 * seconds else []
    whole += ["approximate"] if _is_tuned(session, pilot, image) else []
    return Plan(patch, stride, every, ROUNDS, tuple(whole), arguments)


def _is_tuned(session: OcclusionSession, plan: Plan, image: np.ndarray) -> bool:
    """Whether there is a tuning, and it is for what is measured; else says why it is left out."""
    if session.tuning is None:
        return False
    from krypton_onnx.errors import KryptonError

    try:
        plan.run(session, image, "approximate")
    except KryptonError as error:
        show_warning(f"approximate maps are not measured: {error}")
        return False
    return True


def _told(measured: Measurement, plan: Plan, image: Path | None) -> dict[str, Any]:
    """What --json prints."""
    heat_map = measured.heat_map
    return {
        "image": None if image is None else str(image),
        "frame": heat_map.frame,
        "patch": plan.patch,
        "stride": plan.stride,
        "positions": measured.positions,
        "sampled_positions": measured.sampled,
        "rounds": plan.rounds,
        "ways": {
            mode: {
                "seconds": measured.seconds(mode),
                "positions_per_second": measured.positions / measured.seconds(mode),
                "speedup": measured.speedup(mode),
                "measured_on": "all positions" if way.whole else "sampled positions",
                "rounds": way.whole or way.sample,
            }
            for mode, way in measured.ways.items()
        },
        "largest_difference": measured.largest_difference,
        "score": heat_map.score_name,
        "note": heat_map.note,
    }


def _show(measured: Measurement, plan: Plan, shape: tuple[int, ...], image: Path | None) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 1000  # no width to fit: a row is a line
    what = "a random image" if image is None else str(image)
    typer.echo(
        f"{what} {sizes(shape)}, patch {sizes(plan.patch)}, stride {sizes(plan.stride)}: "
        f"{measured.positions:,} positions"
    )
    console.print(_table(measured))
    name, difference = measured.heat_map.score_name, measured.largest_difference
    typer.echo(
        f"medians of {plan.rounds} rounds in turns; naive on {measured.sampled:,} positions spread over the grid\n"
        f"largest difference between exact and naive: {difference:.1e} ({name})"
    )
    if measured.heat_map.note:
        typer.echo(measured.heat_map.note)


def _table(measured: Measurement) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("a map", no_wrap=True)
    for heading in ("seconds", "positions/s", "times as fast"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for mode in ("naive", *(mode for mode in measured.ways if mode != "naive")):
        seconds, speedup = measured.seconds(mode), measured.speedup(mode)
        guessed = not measured.ways[mode].whole and measured.sampled < measured.positions
        table.add_row(
            NAMES[mode], f"{seconds:,.2f}", f"{measured.positions / seconds:,.0f}", f"{speedup:.1f} x",
            "from the sample" if guessed else "",
        )
    return table
