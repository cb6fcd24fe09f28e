"""Graph transformations: from the ops that modules emit to the ops that are deployed. One transformation a file."""

from bnn_deploy.passes.pipeline import PassRecord, deploy_passes, float_twin, run_float_passes, run_passes

__all__ = ["PassRecord", "deploy_passes", "float_twin", "run_float_passes", "run_passes"]
