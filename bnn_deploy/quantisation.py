"""The 8-bit version of a float network, by ONNX Runtime's own quantiser: what 1 bit is compared with."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from bnn_deploy.errors import InputRefused


class _Samples(CalibrationDataReader):
    def __init__(self, samples: Iterable[Mapping[str, NDArray[Any]]]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> Any:  # a dict, or None at the end, which the base class does not say
        sample = next(self._samples, None)
        return None if sample is None else dict(sample)


def quantise(
    source: Path, target: Path, samples: Iterable[Mapping[str, NDArray[Any]]], *, symmetric: bool = False
) -> None:
    """Writes `source` with 8-bit weights and activations: static, QuantizeLinear/DequantizeLinear pairs.

    Weights are int8 with one scale an output channel, activations uint8 with the range that calibration found. Before
    that ONNX Runtime folds what it can, BatchNorms above all, so that those too are 8-bit arithmetic.

    Args:
        source: A float ONNX file of standard ops.
        target: Where the quantised file goes.
        samples: Input name -> array, a mapping for each run of the calibration; at least one.
        symmetric: int8 activations too, without zero points, and float biases: what TensorRT takes.

    Raises:
        InputRefused: ONNX Runtime cannot quantise it; its own words follow.
    """
    with tempfile.TemporaryDirectory() as folder, _quiet():
        folded = Path(folder) / "folded.onnx"
        try:
            quant_pre_process(str(source), str(folded), skip_symbolic_shape=True)
            quantize_static(
                str(folded),
                str(target),
                _Samples(samples),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                extra_options={"ActivationSymmetric": True, "QuantizeBias": False} if symmetric else {},
            )
        except Exception as error:  # the quantiser raises a dozen unrelated types
            raise InputRefused(
                str(source), f"ONNX Runtime's quantiser fails: {type(error).__name__}: {error}"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's advice, which it writes to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
