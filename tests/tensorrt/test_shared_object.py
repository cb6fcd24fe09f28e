"""The smallest shared object, loaded."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

import pytest

from bnn_deploy.tensorrt.shared_object import empty_shared_object, machine_of

NAME, NEEDED = "libbnn_deploy_test.so.7", "libm.so.6"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    machine = machine_of(Path("/proc/self/exe").read_bytes()[:20])
    path = tmp_path_factory.mktemp("library") / "of_another_name.so"
    path.write_bytes(empty_shared_object(NAME, NEEDED, machine))
    return ctypes.CDLL(str(path))


def test_what_it_needs_is_found_in_it(library: ctypes.CDLL) -> None:
    library.sqrt.argtypes, library.sqrt.restype = [ctypes.c_double], ctypes.c_double
    assert library.sqrt(9.0) == 3.0


def test_it_has_nothing_else(library: ctypes.CDLL) -> None:
    with pytest.raises(AttributeError):
        library.no_such_symbol  # noqa: B018


def test_it_is_found_by_its_own_name(library: ctypes.CDLL) -> None:
    again = ctypes.CDLL(NAME, mode=os.RTLD_NOLOAD)
    assert again._handle == library._handle
    with pytest.raises(OSError):
        ctypes.CDLL("libbnn_deploy_test.so.8", mode=os.RTLD_NOLOAD)


def test_it_asks_for_no_executable_stack() -> None:
    """A file without this header asks for one, which newer systems refuse."""
    content = empty_shared_object(NAME, NEEDED, 62)
    headers = [struct.unpack_from("<II", content, 64 + 56 * index) for index in range(3)]
    assert (0x6474E551, 6) in headers
    assert machine_of(content) == 62
