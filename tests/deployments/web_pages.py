"""A site as a test serves it, and what a page computed beside what Python does."""

import base64
import re
import threading
from contextlib import contextmanager

import numpy as np

from krypton_onnx.web.headers import HEADERS
from krypton_onnx.web.server import SiteServer

PHOTO = "coffee.png"
PATCH, STRIDE = 48, 24  # of SqueezeNet's site: 8 x 8 positions
ESPRESSO, CUP = 967, 968
TOLERANCE = 1e-4  # of the page's scores, against Python's


@contextmanager
def running(folder, headers=HEADERS):
    """A server of a folder; its address."""
    with SiteServer(folder, "127.0.0.1", 0, headers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


def set_image(page, path):
    """Give the page an image as a script does; (height, width), as the model sees it."""
    content = base64.b64encode(path.read_bytes()).decode()
    size = page.evaluate(
        """async (content) => {
            const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
            return window.krypton.setImage(new Blob([bytes]));
        }""",
        content,
    )
    return size["height"], size["width"]


def choose_file(page, path):
    """As a visitor does, and wait for the map."""
    page.locator("#file").set_input_files(path)
    complete(page)


def complete(page):
    from playwright.sync_api import expect

    expect(page.get_by_text(re.compile(r"^Complete: \d+ positions in ")).first).to_be_visible(timeout=60_000)


def explained(page, **options):
    return page.evaluate("(options) => window.krypton.explain(options)", options)


def assert_equal_maps(told, heat_map):
    """What the page computed and Python's exact map."""
    wanted = heat_map.to_dict()
    for name in ("targets", "tops", "lefts", "patch", "stride", "frame", "computed", "complete", "score_name", "mode"):
        assert told[name] == wanted[name], name
    scale = max(1.0, float(np.abs(heat_map.scores).max()))
    for name in ("scores", "baseline"):
        have = np.array(told[name], float)
        assert have.shape == getattr(heat_map, name).shape
        assert np.abs(have - getattr(heat_map, name)).max() <= TOLERANCE * scale, name
    # Of two classes nearly as likely either may come first.
    assert np.mean(np.array(told["predicted"]) == heat_map.predicted) > 0.97
