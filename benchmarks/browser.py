"""How many times faster than full inference a map is in a browser: the site of a model, in headless Chromium.

    python benchmarks/browser.py                                          # SqueezeNet, with all threads and with one
    python benchmarks/browser.py vgg16.onnx --stride 8 -- --preset imagenet
    python benchmarks/browser.py model.onnx --json browser.json

What follows `--` goes to `krypton-onnx web`. Both ways run in the page, by ONNX Runtime's WebAssembly, with as many
threads: full inference of one occluded image after the other, on some positions; and the rewritten model, on a batch of
the grid (the middle one of those that a map takes) and on the whole map, from the first batch to the last. Medians over
the rounds. Run it on an idle machine. Needs Node, Chromium and Playwright (the extras web and dev).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import onnx
from PIL import Image

from krypton_onnx import demo
from krypton_onnx.web.server import SiteServer

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@dataclass(frozen=True)
class Measured:
    """Of one number of threads. Milliseconds a position; `map_ms` of the whole map.

    batch_factor, map_factor : how many times as fast as full inference, of the batch and of the whole map.
    difference : the largest between the scores of both ways, relative to the largest above 1.
    """

    threads: int
    naive_ms: float
    batch_ms: float
    map_ms: float
    batch: int
    positions: int
    difference: float

    @property
    def batch_factor(self) -> float:
        return self.naive_ms / self.batch_ms

    @property
    def map_factor(self) -> float:
        return self.naive_ms * self.positions / self.map_ms


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        site, image = _site(folder, options)
        print(f"load average {os.getloadavg()[0]:.2f} of {os.cpu_count()} cores at the start")
        version, found = measure(site, image, options)
    for one in found:
        print(
            f"{one.threads} thread{'s' * (one.threads != 1)}: full inference {one.naive_ms:.1f} ms a position; ours "
            f"{one.batch_ms:.2f} ms in a batch of {one.batch} ({one.batch_factor:.1f}x); the map of {one.positions:,} "
            f"positions {one.map_ms / 1000:.1f} s ({one.map_factor:.1f}x); scores differ by {one.difference:.1e}"
        )
    print(f"Chromium {version}, patch {options.patch}, stride {options.stride}, medians of {options.rounds} rounds")
    if options.json:
        factors = [{**asdict(one), "batch_factor": one.batch_factor, "map_factor": one.map_factor} for one in found]
        told = {"chromium": version, "patch": options.patch, "stride": options.stride, "measured": factors}
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def measure(site: Path, image: Path, options: argparse.Namespace) -> tuple[str, list[Measured]]:
    """Chromium's version, and what was measured for each number of threads. Their rounds are interleaved."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    with SiteServer(site, "127.0.0.1", 0) as server, sync_playwright() as running:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            browser = running.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
            pages = []
            for threads in options.threads:
                page = browser.new_context().new_page()
                page.set_default_timeout(0)
                page.goto(server.url + ("" if threads == 0 else f"?provider=wasm&threads={threads}"))
                pages.append((page, _start(page, image)))
            rounds: list[list[dict[str, Any]]] = [[] for _ in pages]
            for number in range(options.rounds + 1):  # the first one warms up
                for (page, _), made in zip(pages, rounds, strict=True):
                    told = _round(page, options)
                    made += [told] if number else []
            version = browser.version
            browser.close()
        finally:
            server.shutdown()
            thread.join()
    return version, [_summed(threads, made) for (_, threads), made in zip(pages, rounds, strict=True)]


def _start(page: Any, image: Path) -> int:
    """Load the model and give it the image. Returns the number of threads."""
    ready = page.evaluate("window.krypton.ready")
    if ready["provider"] != "wasm":
        raise RuntimeError(f"the page computes by {ready['provider']}, not by WebAssembly")
    content = list(image.read_bytes())
    page.evaluate("(bytes) => window.krypton.setImage(new Blob([Uint8Array.from(bytes)]))", content)
    return int(ready["threads"])


def _round(page: Any, options: argparse.Namespace) -> dict[str, Any]:
    grid = {"patch": options.patch, "stride": options.stride}
    both = page.evaluate(
        """async ([grid, batch, positions]) => {
            const made = await window.krypton.measure({ ...grid, batch, positions });
            const start = performance.now();
            const map = await window.krypton.explain(grid);
            return { ...made, map_ms: performance.now() - start, cells: map.computed.flat().length };
        }""",
        [grid, options.batch, options.positions],
    )
    if both["provider"] != "wasm":
        raise RuntimeError("the page moved to WebGPU: measure on a machine without, or with --threads 1")
    return both


def _summed(threads: int, rounds: Sequence[dict[str, Any]]) -> Measured:
    def middle(name: str) -> float:
        return median(one[name] for one in rounds)

    return Measured(
        threads, middle("naive_ms"), middle("incremental_ms"), middle("map_ms"), rounds[0]["batch"],
        rounds[0]["cells"], max(one["difference"] for one in rounds),
    )  # fmt: skip


def _site(folder: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    """The site of the model, and an image."""
    from krypton_onnx.cli import app

    image, model, more = options.image, options.model, list(options.web)
    if image is None:
        image = folder / "image.png"
        Image.fromarray(demo.photograph()).save(image)
    if model is None:
        model, wants = folder / "squeezenet.onnx", demo.PREPARATION
        onnx.save(demo.squeezenet(), model)
        mean = ",".join(map(str, wants.mean))
        more += ["--scale", str(wants.scale), "--mean", mean, "--channel-order", wants.channel_order]
    app(["web", str(model), "-o", str(folder / "site"), "--no-sample", "--quiet", *more], standalone_mode=False)
    return folder / "site", image


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    given = list(sys.argv[1:] if arguments is None else arguments)
    own, web = (given[: given.index("--")], given[given.index("--") + 1 :]) if "--" in given else (given, [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="default: SqueezeNet, of the extra demo")
    parser.add_argument("--image", type=Path, help="default: the photograph of the demo")
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--stride", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64, help="positions of the batch that is measured")
    parser.add_argument("--positions", type=int, default=5, help="of full inference, a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--threads", type=lambda text: [int(one) for one in text.split(",")], default=[0, 1], help="0: all; 0,1: both"
    )
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args(own)
    options.web = web
    return options


if __name__ == "__main__":
    main()
