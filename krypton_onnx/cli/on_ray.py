"""Many images on Ray: told as those that are explained here, and written as Parquet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import typer

from krypton_onnx.cli.console import INTERRUPTED, error_line, show_error, warning_line
from krypton_onnx.cli.engine import EngineOptions, location
from krypton_onnx.cli.explaining import Explainer
from krypton_onnx.cli.progress import Bar, image_bar
from krypton_onnx.cli.writing import WrittenOptions
from krypton_onnx.files import require_writable
from krypton_onnx.ray import Result, explain
from krypton_onnx.ray.cluster import silent
from krypton_onnx.ray.results import known_images
from krypton_onnx.ray.sources import find_files
from krypton_onnx.ray.storage import Storage


def explain_on_ray(
    given: Sequence[Path],
    written: WrittenOptions,
    opened: Callable[[], Explainer],
    engine: EngineOptions,
    providers: tuple[str, ...] | None,
    read: Sequence[Path],
) -> None:
    """Explain every image that is not finished yet.

    given : as on the command line. opened : the model, on this machine, of whose session is only asked what is stored
    in it. providers : of the workers. read : files that must not be replaced.

    Exits with code 1 where images failed, 130 after Ctrl-C. Raises KryptonError where it is not an image's fault.
    """
    output = location(Path(written.output or ""))
    files = find_files([location(one) for one in given], None if "://" in output else Path(output))
    if written.save_spec is not None:
        require_writable(written.save_spec, [*read, *(one.location for one in files if "://" not in one.location)])
    explainer = opened()
    pictures = any(not file.key.lower().endswith(".npy") for file in files)
    spec = explainer.spec(pictures)
    if pictures and not explainer.arrays_only and not written.quiet and spec.preparation is not None:
        known = explainer.asked.preparation, explainer.session.preparation
        explainer.preparing.tell_of_assumed(spec.preparation, *known)
    spec = replace(spec, providers=providers).with_digest()
    if written.save_spec is not None:
        spec.save(written.save_spec)
    told = _Told(written, len(files))
    interrupted = False
    with silent(), image_bar("explaining", 1, written.quiet, unit="images") as bar:
        try:
            explain(
                files, spec=spec, output=output, labels=explainer.labels, workers=engine.workers,
                num_cpus=engine.threads_per_worker or 1, address=engine.address, overwrite=written.overwrite,
                compare_content=True, on_result=told.by(bar),
            )  # fmt: skip
        except KeyboardInterrupt:
            interrupted = True
    told.all(output, interrupted)
    if interrupted:
        raise typer.Exit(INTERRUPTED)
    if told.failed:
        raise typer.Exit(1)


class _Told:
    """What became of the images, said as it comes and in the end."""

    def __init__(self, written: WrittenOptions, images: int) -> None:
        self._written, self._images = written, images
        self._explained: list[str] = []
        self._skipped: list[str] = []
        self.failed: dict[str, str] = {}

    def by(self, bar: Bar) -> Callable[[Result], None]:
        """What is called with each result."""

        def tell(result: Result) -> None:
            if result.status == "skipped":
                self._skipped.append(result.key)
                return
            for text in () if self._written.quiet else result.warnings:
                bar.say(warning_line(f"{result.key}: {text}"))
            if result.status == "ok":
                self._explained.append(result.key)
                if not (self._written.quiet or self._written.json):
                    bar.say(f"{result.key}: {result.said}", err=False)
            else:
                self.failed[result.key] = result.error or ""
                bar.say(error_line(f"{result.key}: {result.error}"))
            bar(len(self._explained) + len(self.failed), self._images - len(self._skipped))

        return tell

    def all(self, output: str, interrupted: bool) -> None:
        """JSON on standard output, or a line; what went wrong on standard error."""
        written, done, before = self._written, len(self._explained), len(self._skipped)
        if written.json and not interrupted:
            from json import dumps

            failed = [{"source": key, "error": error} for key, error in self.failed.items()]
            told = {"explained": self._explained, "skipped": self._skipped, "failed": failed, "output": output}
            typer.echo(dumps(told, allow_nan=False))
        elif interrupted and not (written.quiet or written.json):
            known = known_images(Storage.of(output)).values()  # more than was told of, before it ended
            typer.echo(f"{sum(one.status == 'ok' for one in known)} images are finished; see {output.rstrip('/')}/")
        elif not (written.quiet or written.json):
            earlier = f", {before} were finished before" if before else ""
            typer.echo(f"{done} of {self._images} images explained{earlier}; see {output.rstrip('/')}/")
        if interrupted:
            show_error("stopped by Ctrl-C: give the same command again to go on")
        elif self.failed:
            show_error(f"{len(self.failed)} of {self._images} images failed: give the same command again to retry them")
