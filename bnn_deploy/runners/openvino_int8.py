"""OpenVINO on the float twin quantised to 8 bits, the file that ONNX Runtime's quantiser writes. For comparison."""

from __future__ import annotations

from bnn_deploy.runners.openvino_model import OpenVinoModelRunner


class OpenVinoInt8Runner(OpenVinoModelRunner):
    """Runs a quantised model; see `OpenVinoModelRunner` for arguments and errors."""

    name = "openvino-int8"
