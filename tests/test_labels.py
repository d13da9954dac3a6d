"""Names of classes: the files that hold them, and the class that a word means."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krypton_onnx.errors import ImageError
from krypton_onnx.labels import check_labels, class_name, find_class, read_labels

ANIMALS = ("tabby, tabby cat", "Egyptian cat", "sea_lion", "lion, king of beasts", "Lion fish", "espresso")


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("names.txt", "cat\ndog\n", ("cat", "dog")),
        ("names.txt", "cat\r\n\r\ndog  ", ("cat", "", "dog")),  # an empty line is a class without a name
        ("names.txt", "\ufeffcat\ndog\n\n\n", ("cat", "dog")),
        ("names.csv", "cat, tabby\ndog", ("cat, tabby", "dog")),
        ("names.json", '["cat", "dog"]', ("cat", "dog")),
        ("names.json", '{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("names.json", '{"0": "cat", "2": "dog"}', ("cat", "", "dog")),
        ("names.json", '{"0": ["n01", "cat"], "1": ["n02", "dog"]}', ("cat", "dog")),
        ("config.json", '{"model_type": "vit", "id2label": {"0": "cat", "1": "dog"}, "x": 3}', ("cat", "dog")),
    ],
)
def test_files_of_names(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content.encode())
    assert read_labels(tmp_path / name) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("names.txt", b"", "holds no names"),
        ("names.txt", b"\xff\xfe\x00", "cannot be read as text"),
        ("names.json", b"{", "Expecting property name"),
        ("names.json", b"[" * 100000, "names.json: "),
        ("names.json", b"3", "neither a list of names nor an object"),
        ("names.json", b'{"cat": 0}', "no object from class ids to names"),
        ("names.json", b'{"99999999999": "cat"}', "no object from class ids to names"),
        ("names.json", b"[1, 2]", "holds '1' where a name should be"),
        ("names.json", b"{}", "holds no names"),
        ("names.txt", None, "no such file"),
    ],
)
def test_what_holds_no_names_is_refused_in_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError) as raised:
        read_labels(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name)) and message in str(raised.value)
    assert "\n" not in str(raised.value)
    with pytest.raises(ImageError, match="is not a regular file"):
        read_labels(tmp_path)


def test_names_are_names():
    for wrong in ("cat", [1, 2], []):
        with pytest.raises(ImageError, match=r"^labels: "):
            check_labels(wrong)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("5", 5), (5, 5), (" 17 ", 17), ("espresso", 5), ("ESPRESSO", 5), ("tabby", 0), ("Tabby Cat", 0), ("lion", 3),
        ("sea lion", 2), ("sea_lion", 2), ("egyptian", 1), ("fish", 4), ("beasts", 3),
    ],
)  # fmt: skip
def test_a_class_by_what_somebody_remembers(word, expected):
    assert find_class(word, ANIMALS) == expected


def test_what_is_ambiguous_or_misspelt_is_answered_with_names():
    with pytest.raises(ImageError, match=r"'cat' could be tabby, tabby cat \(class 0\), Egyptian cat \(class 1\)"):
        find_class("cat", ANIMALS)
    with pytest.raises(ImageError, match=r"no class is called 'expresso'; did you mean espresso \(class 5\)\?"):
        find_class("expresso", ANIMALS)
    with pytest.raises(ImageError, match=r"'tiger'; classes are numbers from 0 to 5, or their names"):
        find_class("tiger", ANIMALS)
    with pytest.raises(ImageError, match="the classes have none"):
        find_class("lion", None)
    with pytest.raises(ImageError, match=r"and 95 more: give the number"):
        find_class("a", ["cat a"] * 100)
    with pytest.raises(ImageError, match="no class is called ''"):
        find_class("", ANIMALS)


words = st.text(st.characters(exclude_categories=["Cs", "Nd"]), min_size=1)


@given(st.lists(words, min_size=1, unique_by=str.casefold))
def test_the_whole_name_always_finds_its_class(names):
    plain = [" ".join(name.replace("_", " ").split()).casefold() for name in names]
    for index, name in enumerate(names):
        if plain[index] and plain.count(plain[index]) == 1 and not name.strip().isdecimal():
            assert find_class(name.upper() if name.upper().casefold() == name.casefold() else name, names) == index


def test_a_class_is_called_by_name_and_number():
    assert class_name(5, ANIMALS) == "espresso (class 5)"
    assert class_name(6, ANIMALS) == class_name(6, None) == "class 6"
    assert class_name(0, ["", "x"]) == "class 0"
    assert json.dumps(class_name(0, ["two\nlines"])) == '"two lines (class 0)"'
