"""Whatever the user's code does wrong ends in one message that says where to look."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bnn_deploy import user_code
from bnn_deploy.errors import InputRefused


@pytest.fixture(autouse=True)
def _leave_imports_as_they_were() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def file_with(tmp_path: Path, text: str, name: str = "net.py") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def refused(spec: str) -> str:
    with pytest.raises(InputRefused) as refusal:
        user_code.resolve(spec)
    return str(refusal.value)


@pytest.mark.parametrize("spec", ["net.py:Net", "a/b.py:Net", "package.net:make", "net.py", "folder/net"])
def test_references(spec: str) -> None:
    assert user_code.is_reference(spec)


@pytest.mark.parametrize("spec", ["birealnet", "vgg_small", "not-a-model"])
def test_names_are_no_references(spec: str) -> None:
    assert not user_code.is_reference(spec)


def test_attribute_of_a_file(tmp_path: Path) -> None:
    path = file_with(tmp_path, "class Net:\n    @staticmethod\n    def small():\n        return 'small'\n")
    assert user_code.resolve(f"{path}:Net.small")() == "small"


def test_a_file_imports_its_neighbours_also_later(tmp_path: Path) -> None:
    file_with(tmp_path, "VALUE = 4", "neighbour_of_net.py")
    path = file_with(tmp_path, "def make():\n    from neighbour_of_net import VALUE\n    return VALUE\n")
    assert user_code.resolve(f"{path}:make")() == 4


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file_with(tmp_path / folder, f"NAME = {folder!r}", "json.py")
    assert [user_code.resolve(f"{tmp_path / folder}/json.py:NAME") for folder in ("a", "b")] == ["a", "b"]
    assert "dumps" in dir(sys.modules.get("json"))  # The standard library's is still the one called json.


def test_one_file_named_twice_is_one_module(tmp_path: Path) -> None:
    path = file_with(tmp_path, "class Net:\n    pass\n")
    assert user_code.resolve(f"{path}:Net") is user_code.resolve(f"{path}:Net")


def test_folders_come_first_in_their_order(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        file_with(tmp_path / folder, f"NAME = {folder!r}", "module_in_two_folders.py")
    user_code.add_folders([tmp_path / "a", tmp_path / "b"])
    assert sys.path[:2] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert user_code.resolve("module_in_two_folders:NAME") == "a"


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(InputRefused, match="no such folder"):
        user_code.add_folders([tmp_path / "none"])


def test_missing_file_names_its_likeness(tmp_path: Path) -> None:
    file_with(tmp_path, "")
    message = refused(f"{tmp_path}/nett.py:make")
    assert "no such file" in message and f"did you mean {tmp_path}/net.py?" in message


def test_directory_and_missing_folder(tmp_path: Path) -> None:
    assert "directory" in refused(f"{tmp_path}/:make")
    assert "no such file" in refused(f"{tmp_path}/none/net.py:make")


@pytest.mark.parametrize("spec", ["net.py", "net.py:", ":make"])
def test_a_spec_without_an_attribute(spec: str) -> None:
    assert "names no attribute" in refused(spec)


def test_missing_module_and_bad_name() -> None:
    assert "'no_such_module_here'" in refused("no_such_module_here:make")
    assert "not the name of a module" in refused("a-b.c:make")


def test_missing_attribute_names_its_likenesses(tmp_path: Path) -> None:
    path = file_with(tmp_path, "def make_net():\n    pass\n\ndef make_nets():\n    pass\n")
    message = refused(f"{path}:make_nte")
    assert "no attribute 'make_nte'" in message and "make_net" in message and "make_nets" in message


def test_import_that_raises_shows_file_and_line(tmp_path: Path) -> None:
    path = file_with(tmp_path, "x = 1\n\nraise ValueError('no\\nweights')\n")
    assert f"ValueError: no weights ({path}, line 3)" in refused(f"{path}:make")


def test_a_failed_import_is_tried_again(tmp_path: Path) -> None:
    path = file_with(tmp_path, "import pathlib\nX = int(pathlib.Path(__file__).with_name('n').read_text())\n")
    assert "FileNotFoundError" in refused(f"{path}:X")
    (tmp_path / "n").write_text("7")
    assert user_code.resolve(f"{path}:X") == 7


def test_syntax_error_shows_file_and_line(tmp_path: Path) -> None:
    message = refused(f"{file_with(tmp_path, 'def make(:')}:make")
    assert "SyntaxError" in message and "net.py, line 1" in message


def test_import_of_something_missing_is_named(tmp_path: Path) -> None:
    message = refused(f"{file_with(tmp_path, 'import no_such_module_here')}:make")
    assert "'no_such_module_here'" in message and "--sys-path" in message


def test_import_that_exits(tmp_path: Path) -> None:
    assert "SystemExit: 3" in refused(f"{file_with(tmp_path, 'import sys; sys.exit(3)')}:make")


def test_call_gives_what_the_function_gives() -> None:
    assert user_code.call("net", divmod, 7, 2) == (3, 1)


def test_call_shows_the_users_own_last_line(tmp_path: Path) -> None:
    text = "import torch\n\ndef make():\n    return torch.nn.Linear('a', 2)\n"
    path = file_with(tmp_path, text)
    with pytest.raises(InputRefused) as refusal:
        user_code.call("net", user_code.resolve(f"{path}:make"))
    assert "TypeError" in str(refusal.value) and f"({path}, line 4)" in str(refusal.value)


def test_call_lets_our_own_refusals_and_interrupts_through() -> None:
    def refuse() -> None:
        raise InputRefused("conv1", "bad")

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(InputRefused, match=r"^conv1: bad$"):
        user_code.call("net", refuse)
    with pytest.raises(KeyboardInterrupt):
        user_code.call("net", interrupt)


def make(layers: int, *, width: float = 1.0) -> None:
    """A factory."""


def test_unknown_keyword_argument() -> None:
    with pytest.raises(InputRefused) as refusal:
        user_code.check_kwargs("net", make, {"layers": 1, "widht": 2})
    assert "'widht'" in str(refusal.value) and "did you mean width?" in str(refusal.value)


def test_missing_argument() -> None:
    with pytest.raises(InputRefused, match=r"needs arguments: layers.*--kwargs"):
        user_code.check_kwargs("net", make, {"width": 2})


@pytest.mark.parametrize("function", [lambda **any_: None, functools.partial(make, 3), dict, int])
def test_arguments_that_pass(function: object) -> None:
    assert callable(function)
    user_code.check_kwargs("net", function, {} if function in (int, dict) else {"width": 2})
