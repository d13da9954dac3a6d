"""atomic_write: a file is written whole, or not at all."""

import os

import pytest

from krypton_onnx.errors import KryptonError
from krypton_onnx.files import atomic_write, require_writable


def test_the_file_appears_when_the_block_ends(tmp_path):
    path = tmp_path / "map.png"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path and temporary.suffix == ".png"
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["map.png"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "map.png"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["map.png"]


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "real.png").write_text("old")
    (tmp_path / "link.png").symlink_to("real.png")
    with atomic_write(tmp_path / "link.png") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_text() == "new"


def test_what_a_writer_cannot_write_is_told_with_its_path(tmp_path):
    full = OSError(28, "No space left on device")
    message = r"cannot write .*map\.png: No space left"
    with pytest.raises(KryptonError, match=message), atomic_write(tmp_path / "map.png"):
        raise full
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("absent/map.png", "there is no folder .*absent"),
        (".", "it is a folder"),
        (os.devnull, "not a regular file"),
    ],
)
def test_an_impossible_place_is_refused_beforehand(tmp_path, path, message):
    with pytest.raises(KryptonError, match=f"cannot write .*{message}"):
        require_writable(tmp_path / path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(KryptonError, match="is not writable"):
        require_writable(tmp_path / "map.png")
