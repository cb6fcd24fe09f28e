"""Binary neural networks from PyTorch to one ONNX file with 1-bit weights, proven equal to the PyTorch model.

    import bnn_deploy as bd

    model = bd.load_model("birealnet")
    bd.export_onnx(model, example_inputs, "out/model.onnx")
    report = bd.check_parity(model, ["onnxruntime"], inputs)
    rows = bd.benchmark("out/model.onnx", ["onnxruntime-float", "native-cpu"])
    bd.build_engine("out/model.onnx", "out/model.engine")

The names below are looked up when they are first used (PEP 562): `import bnn_deploy` alone imports neither torch nor
onnx, so that the command line answers at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bnn_deploy import errors

if TYPE_CHECKING:
    from bnn_deploy import bits, nn, opset
    from bnn_deploy.benchmarking import benchmark
    from bnn_deploy.export import export_onnx
    from bnn_deploy.loading import load_model
    from bnn_deploy.pipeline import check_parity
    from bnn_deploy.tensorrt.build import build_engine

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
    "benchmark": "bnn_deploy.benchmarking",
    "build_engine": "bnn_deploy.tensorrt.build",
    "check_parity": "bnn_deploy.pipeline",
    "export_onnx": "bnn_deploy.export",
    "load_model": "bnn_deploy.loading",
}
_SUBMODULES = ("bits", "nn", "opset")


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
