"""OpenVINO on the float twin, in float32. For comparison: it does not take the deployed file."""

from __future__ import annotations

from bnn_deploy.runners.openvino_model import OpenVinoModelRunner


class OpenVinoRunner(OpenVinoModelRunner):
    """Runs a float twin; see `OpenVinoModelRunner` for arguments and errors."""

    name = "openvino"
