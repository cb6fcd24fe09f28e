"""How TensorRT is told what was asked of a build."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bnn_deploy.errors import InputRefused
from bnn_deploy.tensorrt.options import BuildOptions, configure
from bnn_deploy.tensorrt.sdk import load_sdk, make_builder


class Cache:
    """A timing cache: anything that begins so."""

    def __init__(self, content: bytes) -> None:
        self.content = content


class Config:
    """An `IBuilderConfig` of TensorRT 10, which remembers what it is told."""

    plugins_to_serialize: Any = None
    profiling_verbosity: Any = None

    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.limits: dict[str, int] = {}
        self.cache: Cache | None = None

    def set_flag(self, flag: str) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: str) -> None:
        self.flags.remove(flag)

    def set_memory_pool_limit(self, pool: str, limit: int) -> None:
        self.limits[pool] = limit

    def create_timing_cache(self, content: bytes) -> Cache | None:
        return Cache(content) if content in (b"", b"timings") else None

    def set_timing_cache(self, cache: Cache, ignore_mismatch: bool) -> bool:
        self.cache = cache
        return not ignore_mismatch


TENSORRT = SimpleNamespace(
    __name__="tensorrt",
    __version__="10.15",
    BuilderFlag=SimpleNamespace(TF32="TF32", VERSION_COMPATIBLE="VERSION_COMPATIBLE"),
    ProfilingVerbosity=SimpleNamespace(DETAILED="detailed"),
    MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
)
OLD = SimpleNamespace(**{**vars(TENSORRT), "BuilderFlag": SimpleNamespace()})


def test_float32_is_float32_and_all_of_the_layers_is_kept() -> None:
    config = Config()
    assert configure(TENSORRT, config, BuildOptions(), None) is None
    assert config.flags == set() and config.profiling_verbosity == "detailed" and config.limits == {}
    configure(OLD, Config(), BuildOptions(), None)


def test_every_option_arrives(tmp_path: Path) -> None:
    config, file = Config(), tmp_path / "timings"
    options = BuildOptions(workspace_bytes=7, timing_cache=file, version_compatible=True, embed_plugin=True)
    cache = configure(TENSORRT, config, options, Path("plugin.so"))
    assert config.limits == {"workspace": 7} and config.flags == {"VERSION_COMPATIBLE"}
    assert config.plugins_to_serialize == ["plugin.so"]
    assert cache is config.cache and cache.content == b""
    file.write_bytes(b"timings")
    assert configure(TENSORRT, Config(), options, Path("plugin.so")).content == b"timings"


def test_a_damaged_timing_cache(tmp_path: Path) -> None:
    file = tmp_path / "timings"
    file.write_bytes(b"something else")
    with pytest.raises(InputRefused, match=r"timing_cache \S+/timings: no timing cache, or one of another GPU"):
        configure(TENSORRT, Config(), BuildOptions(timing_cache=file), None)
    assert file.read_bytes() == b"something else"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workspace_bytes": 0}, r"^workspace_bytes: 0 bytes; wanted: at least one"),
        ({"timing_cache": Path("/")}, r"^timing_cache /: a folder; wanted: the name of a file"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        BuildOptions(**options)


@pytest.mark.parametrize(
    ("sdk", "plugin", "options", "message"),
    [
        (TENSORRT, None, {"embed_plugin": True}, "^embed_plugin: the engine has no plugin; fix: leave it out"),
        (OLD, None, {"version_compatible": True}, "^version_compatible: TensorRT 10.15 builds no such engines"),
    ],
)
def test_what_a_version_does_not_have(sdk: Any, plugin: Path | None, options: Any, message: str) -> None:
    with pytest.raises(InputRefused, match=message):
        configure(sdk, Config(), BuildOptions(**options), plugin)


def test_what_tensorrt_rtx_has_in_name_only(tmp_path: Path) -> None:
    """It takes any timing cache and would overwrite any file; and it looks for a library that it does not come with."""
    sdk = load_sdk()
    for options, name in (
        (BuildOptions(timing_cache=tmp_path / "timings"), "timing_cache: TensorRT-RTX .* keeps no timings"),
        (BuildOptions(version_compatible=True), "version_compatible: TensorRT-RTX .* builds no such engines"),
    ):
        with pytest.raises(InputRefused, match=f"^{name}; fix: leave it out"):
            configure(sdk, make_builder(sdk).create_builder_config(), options, None)


def test_tensorrt_rtx_is_told_what_cuda_graphs_need() -> None:
    sdk = load_sdk()
    config = make_builder(sdk).create_builder_config()
    configure(sdk, config, BuildOptions(workspace_bytes=1 << 20), None)
    assert config.get_flag(sdk.BuilderFlag.REQUIRE_USER_ALLOCATION)
    assert not config.get_flag(sdk.BuilderFlag.TF32)
    assert config.get_memory_pool_limit(sdk.MemoryPoolType.WORKSPACE) == 1 << 20
