"""The parity harness: proof, layer by layer and end to end, that a deployed file computes what PyTorch computes."""

from bnn_deploy.parity.harness import check
from bnn_deploy.parity.results import BinarizationResult, FreeRun, LayerResult, RunnerResult

__all__ = ["BinarizationResult", "FreeRun", "LayerResult", "RunnerResult", "check"]
