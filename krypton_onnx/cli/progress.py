"""Progress on standard error: a bar in a terminal, and before a long run a line that says about how long."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from krypton_onnx.cli.console import show_warning

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

LONG = 10.0  # seconds; a shorter run needs no estimate
LEAST_SECONDS = 2.0  # that are looked at before anything is foretold,
LEAST_SHARE = 0.1  # and of the first image,
ENOUGH_SECONDS = 6.0  # or so long
LONGEST_NAME = 28  # characters of the bar
CHUNK = 16  # characters of the bar itself where names and counts stand beside it

Clock = Callable[[], float]


class Estimate:
    """Says once how long a run will take, from its own first steps, so that it costs nothing.

    say : gets the line. images : how many there are. unit : of what is counted in each. From the second step on, as the
    first one compiles and allocates. whole : wait for the first image, as the steps of one do not cost the same.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        images: int,
        unit: str = "positions",
        whole: bool = False,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._say, self._images, self._unit, self._whole, self._clock = say, images, unit, whole, clock
        self._began = clock()
        self._first: tuple[float, float] | None = None  # when the first step was done, and how many images it was
        self._told = False

    def __call__(self, finished: float, size: int) -> None:
        """finished : images, with the share of the current one; size : units of an image."""
        if self._told or finished <= 0:
            return
        now = self._clock()
        if self._whole:
            if finished < 1:
                return
            self._first = self._first or (self._began, 0.0)
        elif self._first is None:
            self._first = now, finished
            return
        since, before = self._first
        elapsed, done = now - since, finished - before
        if done <= 0 or elapsed < LEAST_SECONDS or (finished < LEAST_SHARE and elapsed < ENOUGH_SECONDS):
            return
        left = elapsed / done * (self._images - finished)
        self._told = True
        if now - self._began + left >= LONG:
            self._say(f"about {duration(now - self._began + left)}: {self._what(size)}")

    def _what(self, size: int) -> str:
        return f"{size:,} {self._unit}" if self._images == 1 else f"{self._images:,} images of {size:,} {self._unit}"


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 10 min": no finer than such a figure is true."""
    if seconds < 100:
        return f"{max(1, round(seconds)) if seconds < 20 else round(seconds / 5) * 5} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(round(minutes / 10) * 10, 60)
    return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours} h"


class Bar:
    """What is done of one image after another. Calling it with (done, total) counts the units of the current one."""

    def __init__(self, progress: Progress | None, label: str, images: int, estimate: Estimate | None) -> None:
        self._progress, self._images, self._estimate = progress, images, estimate
        self._task = None if progress is None else progress.add_task(label, total=None, images="")
        self._finished = 0  # images
        self._units = 0  # of them
        self._size = 0  # of the current image

    def begin(self, name: str) -> None:
        """An image, by its name."""
        if self._progress is not None and self._task is not None:
            number = f"{self._finished + 1}/{self._images}"
            self._progress.update(self._task, description=_shortened(name), images=number)

    def end(self) -> None:
        """The image is done, or not to be done."""
        self._finished += 1
        self._units += self._size
        self._size = 0

    def __call__(self, done: int, total: int) -> None:
        self._size = total
        if self._progress is not None and self._task is not None:
            left = (self._images - self._finished) * total  # those to come are taken for as large as this one
            self._progress.update(self._task, completed=self._units + done, total=self._units + left)
        if self._estimate is not None:
            self._estimate(self._finished + done / max(total, 1), total)

    def say(self, line: str, err: bool = True) -> None:
        """A line on standard error, or on standard output; above the bar where both are the terminal."""
        if self._progress is None or not (err or sys.stdout.isatty()):
            typer.echo(line, err=err)
        else:
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def image_bar(
    label: str, images: int, quiet: bool = False, unit: str = "positions", foretell: bool = True, whole: bool = False
) -> Iterator[Bar]:
    """A bar over several images (or one) while the block runs; drawn in a terminal, unless `quiet`.

    foretell : say before a long run how long it will take, in a file or pipe too. whole : see Estimate.
    """

    def say(line: str) -> None:
        bar.say(line)

    estimate = Estimate(say, images, unit, whole) if foretell and not quiet else None
    with _drawn(label, unit, images > 1, quiet) as progress:
        bar = Bar(progress, label, images, estimate)
        yield bar


@contextmanager
def progress_bar(
    label: str, quiet: bool = False, unit: str = "positions", foretell: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """A callable(done, total) that draws a bar with what is done per second and the time left, while the block
    runs. Nothing is drawn when `quiet`, nor into a file or a pipe. Warnings are shown after it, where nothing failed.

    foretell : say before a long run how long it will take, in a file or pipe too."""
    with warnings.catch_warnings(record=True) as caught:  # they would break the bar: they are shown after it
        warnings.simplefilter("always", UserWarning)
        with image_bar(label, 1, quiet, unit, foretell) as bar:
            yield bar
        for warning in [] if quiet else caught:
            show_warning(warning.message)


@contextmanager
def _drawn(label: str, unit: str, several: bool, quiet: bool) -> Iterator[Progress | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    # What is printed goes where it belongs, also while the bar is shown: `Bar.say` sees to that.
    columns, console = _columns(unit, several), Console(stderr=True)
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as progress:
        yield progress


def _columns(unit: str, several: bool) -> list[ProgressColumn]:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.table import Column
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f} {unit}/s")

    whole = Column(no_wrap=True)
    name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    number = TextColumn("{task.fields[images]}", table_column=whole)
    return [
        name, BarColumn(CHUNK if several else 24), number if several else MofNCompleteColumn(table_column=whole),
        Rate(table_column=whole),
        TimeRemainingColumn(elapsed_when_finished=True, table_column=whole),
    ]  # fmt: skip


def _shortened(name: str) -> str:
    """The end of a long name, where the files of a folder differ."""
    return name if len(name) <= LONGEST_NAME else f"...{name[3 - LONGEST_NAME:]}"
