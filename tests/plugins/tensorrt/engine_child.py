"""Has TensorRT-RTX parse and build every op with its plugin, in a process of its own: `library`; prints JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
PLUGINS = TESTS.parents[1] / "plugins"
sys.path[:0] = [str(path) for path in (PLUGINS / "tests", PLUGINS / "cuda", TESTS / "cuda", TESTS / "tensorrt")]

from plugin_cases import EVEN, ODD, OPS, Case, random_case  # noqa: E402

from bnn_deploy.tensorrt.sdk import load_sdk, logger, make_builder  # noqa: E402

trt: Any = load_sdk()


def built(case: Case) -> dict[str, Any]:
    """The network as it is parsed, and how large its engine is."""
    builder = make_builder(trt)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger(trt))
    model = case.model()
    del model.functions[:]  # which the parser would prefer
    if not parser.parse(model.SerializeToString()):
        return {"errors": [parser.get_error(index).desc() for index in range(parser.num_errors)]}
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    return {
        "layers": [network.get_layer(index).type.name for index in range(network.num_layers)],
        "outputs": [[list(output.shape), np.dtype(trt.nptype(output.dtype)).name] for output in outputs],
        "bytes": builder.build_serialized_network(network, builder.create_builder_config()).nbytes,
    }


trt.get_plugin_registry().load_library(sys.argv[1])
generator = np.random.default_rng(0)
print(json.dumps({op: [built(random_case(op, generator, sizes)) for sizes in (ODD, EVEN)] for op in OPS}))
