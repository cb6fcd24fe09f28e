"""Running error analysis: what a network computes exactly, and how far rounding may take any runtime from it.

The network runs once in float64. Beside every value goes a bound on its distance from what a float32 (or float16)
evaluation of the same operations may give, in whatever order that adds up. `docs/parity.md` has the derivation.
"""

from bnn_deploy.error_analysis.bounded import ROUNDINGS, BoundedTensor, Response, Rounding
from bnn_deploy.error_analysis.network import Analysis, analyse, layer_constants

__all__ = ["ROUNDINGS", "Analysis", "BoundedTensor", "Response", "Rounding", "analyse", "layer_constants"]
