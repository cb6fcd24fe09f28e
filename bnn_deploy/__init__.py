"""Binary neural networks from PyTorch to one ONNX file with 1-bit weights, proven equal to the PyTorch model.

    import bnn_deploy as bd

    model = bd.load_model("birealnet")
    bd.export_onnx(model, example_inputs, "out/model.onnx")
    report = bd.check_parity(model, ["onnxruntime"], inputs)

The names below are looked up when they are first used (PEP 562): `import bnn_deploy` alone imports neither torch nor
onnx, so that the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from bnn_deploy import errors

if TYPE_CHECKING:
    from bnn_deploy import bits, nn, opset
    from bnn_deploy.export import export_onnx
    from bnn_deploy.loading import load_model
    from bnn_deploy.pipeline import check_parity

__version__ = "0.1.0"

__all__ = [
    "__version__",
    "benchmark",
    "bits",
    "build_engine",
    "check_parity",
    "errors",
    "export_onnx",
    "load_model",
    "nn",
    "opset",
]

_HOME_OF_FUNCTION = {
    "check_parity": "bnn_deploy.pipeline",
    "export_onnx": "bnn_deploy.export",
    "load_model": "bnn_deploy.loading",
}
_SUBMODULES = ("bits", "nn", "opset")


def build_engine(*_arguments: object, **_options: object) -> NoReturn:
    """Builds a TensorRT engine from an exported file.

    Raises:
        NotYetAvailable: Always, in this version.
    """
    raise errors.NotYetAvailable("bnn_deploy.build_engine", "run the exported file in ONNX Runtime")


def benchmark(*_arguments: object, **_options: object) -> NoReturn:
    """Measures the latency and throughput of runners.

    Raises:
        NotYetAvailable: Always, in this version.
    """
    raise errors.NotYetAvailable("bnn_deploy.benchmark", "time the exported file in ONNX Runtime yourself")


def __getattr__(name: str) -> Any:
    if name in _HOME_OF_FUNCTION:
        value = getattr(import_module(_HOME_OF_FUNCTION[name]), name)
    elif name in _SUBMODULES:
        value = import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
