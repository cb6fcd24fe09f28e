"""What is in a deployed file: every layer, 1-bit or not, why and what would change it; every node; sizes and work.

`file` reads a file and puts the answer together, `layers` and `advice` look at the layers, `nodes` at the graph,
`sizes` at its tensors, `history` at what the export noted down beside the file. `results` has what comes out.
"""

from bnn_deploy.inspection.file import inspect_file, inspect_model, load_model
from bnn_deploy.inspection.history import read_history
from bnn_deploy.inspection.nodes import graph_totals
from bnn_deploy.inspection.results import (
    ExportHistory,
    FloatWeight,
    GraphTotals,
    Inspection,
    LayerRow,
    NodeRow,
    PassRow,
    TensorSize,
)
from bnn_deploy.inspection.sizes import EXAMPLE_SHAPES

__all__ = [
    "EXAMPLE_SHAPES",
    "ExportHistory",
    "FloatWeight",
    "GraphTotals",
    "Inspection",
    "LayerRow",
    "NodeRow",
    "PassRow",
    "TensorSize",
    "graph_totals",
    "inspect_file",
    "inspect_model",
    "load_model",
    "read_history",
]
