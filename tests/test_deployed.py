from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from bnn_deploy.deployed import load_deployed
from bnn_deploy.errors import InputRefused
from bnn_deploy.files import is_engine


def test_an_onnx_file_is_itself(deployed: Callable[..., Any]) -> None:
    given = deployed("Residual")
    assert not is_engine(given.path)
    assert load_deployed(given.path) == onnx.load(str(given.path))


def test_an_engine_needs_its_metadata(tmp_path: Path) -> None:
    engine = tmp_path / "x.engine"
    assert is_engine(engine)
    with pytest.raises(InputRefused, match=r"x\.engine: no such file"):
        load_deployed(engine)
    engine.write_bytes(b"plan")
    with pytest.raises(InputRefused, match=r"x\.engine\.json: no such file; wanted: an engine as"):
        load_deployed(engine)
