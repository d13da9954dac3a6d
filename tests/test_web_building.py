"""The page's own files: built once, from these sources, by a Node that is new enough, or a line that says why not."""

import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from web_cases import PAGE, Builder, files, write_page

from krypton_onnx.errors import KryptonError
from krypton_onnx.web import __main__ as packaging
from krypton_onnx.web import building, node
from krypton_onnx.web.building import STAMP, built_page

pytest_plugins = ("site_fixtures",)


def test_the_page_is_built_once_from_a_copy_of_the_sources(sources, builder):
    for name in ("node_modules/x/index.js", "dist/index.html", "test/main.test.ts", "palette.py", "src/.main.ts.swp"):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).write_text("no part of the page")
    said = []
    page = built_page(said.append)
    assert builder.built == [
        {"package-lock.json": "{}", "package.json": '{"engines": {"node": ">=20.19"}}', "src/main.ts": "one"}
    ]
    assert files(page) == sorted([*PAGE, STAMP]) and said == ["building the page, once (npm; about a minute)"]
    assert built_page(said.append) == page and len(said) == len(builder.built) == 1
    assert page.parent.parent == sources.parent / "cache"
    assert [one.name for one in page.parent.iterdir() if one.is_dir()] == [page.name]


def test_other_sources_are_another_page(sources, builder):
    first = built_page()
    (sources / "src" / "main.ts").write_text("two")
    second = built_page()
    (sources / "src" / "main.ts").rename(sources / "src" / "other.ts")
    third = built_page()
    assert len({first, second, third}) == len(builder.built) == 3
    (second / "index.html").unlink()  # by somebody who tidies up caches
    assert built_page() == third and len(builder.built) == 3
    (third / "index.html").unlink()
    assert built_page() == third and len(builder.built) == 4


def test_a_packaged_page_is_taken_if_it_is_of_these_sources(sources, builder, tmp_path, monkeypatch):
    packaged = building.PACKAGED
    write_page(packaged)
    (packaged / STAMP).write_text("of others\n")
    assert built_page() != packaged and len(builder.built) == 1
    building.build_page(packaged)
    assert built_page() == packaged and files(packaged) == sorted([*PAGE, STAMP])
    monkeypatch.setattr(building, "SOURCES", tmp_path / "none")  # not packaged
    assert built_page() == packaged
    monkeypatch.setattr(building, "PACKAGED", tmp_path / "none")
    with pytest.raises(KryptonError, match="neither the page nor its sources"):
        built_page()


def test_a_wheel_is_given_its_page(sources, builder, monkeypatch, capsys):
    monkeypatch.setattr(packaging, "PACKAGED", building.PACKAGED)
    packaging.main()
    assert built_page() == building.PACKAGED and len(builder.built) == 1
    assert capsys.readouterr().out == f"built {building.PACKAGED}\n"

    def failing(app, page):
        raise KryptonError("npm is not there")

    monkeypatch.setattr(building, "npm_build", failing)
    with pytest.raises(SystemExit, match="krypton-onnx: error: npm is not there"):
        packaging.main()
    assert files(building.PACKAGED) == sorted([*PAGE, STAMP])


def test_two_at_once_build_it_once(sources, monkeypatch):
    started, builder, said, pages = threading.Event(), Builder(), [], []

    def slow(app, page):
        started.set()
        time.sleep(0.3)
        builder(app, page)

    monkeypatch.setattr(building, "npm_build", slow)
    threads = [threading.Thread(target=lambda: pages.append(built_page(said.append))) for _ in range(2)]
    threads[0].start()
    started.wait(10)
    threads[1].start()
    for thread in threads:
        thread.join(30)
    assert len(builder.built) == 1 and len(set(pages)) == 1 and len(pages) == 2
    assert said[1:] == ["another process builds the page, waiting for it"]


@pytest.mark.parametrize("how", ["error", "no page", "Ctrl-C"])
def test_a_build_that_fails_leaves_nothing(sources, monkeypatch, how):
    def failing(app, page):
        write_page(page)
        if how == "no page":
            (page / "index.html").unlink()
        else:
            raise KryptonError("of npm") if how == "error" else KeyboardInterrupt

    monkeypatch.setattr(building, "npm_build", failing)
    with pytest.raises(KeyboardInterrupt if how == "Ctrl-C" else KryptonError):
        built_page()
    cache = sources.parent / "cache" / "krypton-onnx"
    assert [one.name for one in cache.iterdir() if one.suffix != ".lock"] == []


def test_a_cache_that_cannot_be_made_is_told(sources, builder, monkeypatch):
    (sources.parent / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(sources.parent / "file"))
    with pytest.raises(KryptonError, match="set XDG_CACHE_HOME to a folder that can be written"):
        built_page()
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # does not count
    monkeypatch.setenv("HOME", str(sources.parent))
    assert built_page().parent == sources.parent / ".cache" / "krypton-onnx"


# -- Node --------------------------------------------------------------------------------------------------------------


def program(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def on_path(tmp_path, monkeypatch):
    """A folder that is all of the PATH but the shell's own programs, where no Python package brings a Node."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(node, "PACKAGE", "krypton_onnx_no_such_package")
    return folder


def test_node_of_the_path_or_of_the_package(on_path, tmp_path, monkeypatch):
    with pytest.raises(KryptonError, match=r"Node\.js 20\.19 or newer, with npm, .* neither is there: pip install"):
        node.find_node((20, 19))
    program(on_path / "node", "echo v20.18.3")
    with pytest.raises(KryptonError, match="neither is there"):  # without npm
        node.find_node((20, 19))
    program(on_path / "npm", "true")
    with pytest.raises(KryptonError, match=r"bin/node is 20\.18\.3: pip install 'krypton-onnx\[web\]'"):
        node.find_node((20, 19))
    package = tmp_path / "packages" / "a_node_wheel"
    program(package / "bin" / "node", "echo v24.19.0")
    script = program(package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js", "true")
    (package / "__init__.py").write_text("raise ImportError('is found, not imported')")
    monkeypatch.setattr(node, "PACKAGE", "a_node_wheel")
    monkeypatch.setattr(sys, "path", [*sys.path, str(package.parent)])
    found = node.find_node((20, 19))
    assert found == node.Node(package / "bin" / "node", (str(package / "bin" / "node"), str(script)), (24, 19, 0))
    assert found.environment["PATH"].startswith(f"{package / 'bin'}{os.pathsep}")
    program(on_path / "node", "echo v22.3.0")
    assert node.find_node((20, 19)).node == on_path / "node"
    program(on_path / "node", "exit 1")
    assert node.find_node((20, 19)).version == (24, 19, 0)


NPM = """
echo "$@ NODE_ENV=$NODE_ENV" >> {log}
if [ "$1" = ci ]; then
    /bin/mkdir -p node_modules/runtime node_modules/tool
    echo '{{"name": "runtime", "version": "1.2", "license": "MIT"}}' > node_modules/runtime/package.json
    echo "Copyright of the runtime" > node_modules/runtime/LICENSE.md
    echo "of the tool" > node_modules/tool/LICENSE
    exit 0
fi
shift 4
/bin/mkdir -p "$1" && echo page > "$1/index.html"
"""


def test_npm_installs_what_is_locked_and_builds(sources, on_path, tmp_path, monkeypatch):
    log = tmp_path / "log"
    monkeypatch.setenv("NODE_ENV", "production")
    program(on_path / "node", "echo v24.0.0")
    program(on_path / "npm", NPM.format(log=log))
    packages = {"": {}, "node_modules/runtime": {}, "node_modules/tool": {"dev": True}, "node_modules/elsewhere": {}}
    (sources / "package-lock.json").write_text(json.dumps({"packages": packages}))
    page = built_page()
    assert (page / "index.html").read_text() == "page\n"
    ci, build = log.read_text().splitlines()
    assert ci == "ci --ignore-scripts --include=dev NODE_ENV="
    notices = (page / "licenses.txt").read_text()
    assert "runtime 1.2: MIT" in notices and "Copyright of the runtime" in notices and "tool" not in notices
    assert build.startswith("run build -- --outDir /") and build.endswith("/page --emptyOutDir NODE_ENV=")


def test_npm_that_fails_is_told_by_its_last_words(sources, on_path, tmp_path):
    program(on_path / "node", "echo v24.0.0")
    lines = "\n".join(f"echo line  {number}" for number in range(20))
    program(on_path / "npm", f"{lines}\necho the registry is not there >&2\nexit 7")
    with pytest.raises(KryptonError, match=r"npm ci failed \(exit code 7\): line 13 \| .*\| the registry is not"):
        built_page()


def test_the_sources_say_which_node_they_need(tmp_path):
    app = Path(building.__file__).with_name("app")
    assert building.least_node(app) >= (20,)
    for engines, least in ((">=22.12.0", (22, 12, 0)), ("lts", (20,)), (None, (20,))):
        (tmp_path / "package.json").write_text(json.dumps({"engines": {"node": engines}} if engines else {}))
        assert building.least_node(tmp_path) == least


def test_the_lock_pins_every_package_by_its_content():
    lock = json.loads((Path(building.__file__).with_name("app") / "package-lock.json").read_text())
    packages = {name: one for name, one in lock["packages"].items() if name}
    assert packages and all("integrity" in one and not one.get("link") for one in packages.values())
