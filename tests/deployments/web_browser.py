"""Fixtures that open sites in headless Chromium. A plugin of the tests that use it (pytest_plugins), not imported."""

from contextlib import ExitStack

import onnx
import pytest
from PIL import Image
from skimage.data import coffee
from web_cases import krypton
from web_pages import CUP, ESPRESSO, PATCH, PHOTO, STRIDE, running

import krypton_onnx as kx
from krypton_onnx import demo
from krypton_onnx.errors import KryptonError
from krypton_onnx.web import building, node
from krypton_onnx.web.headers import HEADERS

CHROMIUM_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import sync_playwright
    from report_pages import CHROMIUM

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def built():
    """The page, built by npm where it is not in the cache yet; a skip where there is no Node."""
    try:
        node.find_node(building.least_node(building.SOURCES))
    except KryptonError as error:
        pytest.skip(str(error))
    return building.built_page()


@pytest.fixture(scope="session")
def squeezenet(tmp_path_factory, built):
    """A folder with SqueezeNet, how it wants its image, its labels, a photograph, and the site of all that."""
    folder = tmp_path_factory.mktemp("squeezenet")
    onnx.save(demo.squeezenet(), folder / "squeezenet.onnx")
    labels = [demo.label(number).replace("\n", " ") or "-" for number in range(demo.CLASSES)]
    (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    wants = demo.PREPARATION
    (folder / "preparation.toml").write_text(
        f'mean = {list(wants.mean)}\nscale = {wants.scale}\nchannel_order = "{wants.channel_order}"\n'
    )
    Image.fromarray(coffee()).save(folder / PHOTO)
    result = krypton(
        "web", folder / "squeezenet.onnx", "-o", folder / "site", "--preparation", folder / "preparation.toml",
        "--labels", folder / "labels.txt", "--title", "SqueezeNet 1.1", "--patch", str(PATCH), "--stride", str(STRIDE),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="session")
def exact(squeezenet):
    """Python's exact map of the photograph, of two classes."""
    session = kx.OcclusionSession(squeezenet / "squeezenet.onnx", preparation=demo.PREPARATION)
    return session.explain(squeezenet / PHOTO, targets=[ESPRESSO, CUP], patch=PATCH, stride=STRIDE)


@pytest.fixture
def opened(browser):
    """Opens the site in a folder. At the end nothing was asked for but its own files, and nothing went wrong in it.

    wrong : what the test expects to go wrong, as parts of the console's lines.
    """
    # Chromium's own words where a page asks for WebGPU, and there is none.
    stack, asked, said, expected = ExitStack(), [], [], ["No available adapters."]

    def open_site(folder, headers=HEADERS, page_path="", wrong=(), ready=True, **how):
        address = stack.enter_context(running(folder, headers))
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, "accept_downloads": True, **how})
        stack.callback(context.close)
        expected.extend(wrong)

        def look(route):
            asked.append((route.request.url, address))
            # What leaves the site is not let through, and told at the end.
            route.continue_() if route.request.url.startswith(address) else route.abort()

        context.route("**/*", look)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.goto(address + page_path)
        if ready:
            page.evaluate("window.krypton.ready")
        return page

    with stack:
        yield open_site
    foreign = [url for url, own in asked if not url.startswith((own, "blob:", "data:"))]
    assert any(url.endswith(".js") for url, _ in asked) and foreign == []
    unexpected = [line for line in said if not any(part in line for part in expected)]
    assert unexpected == [], unexpected
