from __future__ import annotations

from typing import Any

import onnx
from onnx import helper

from bnn_deploy.parity.kept_open import KeptOpen


class Counted:
    name = "counted"
    open, made = 0, 0

    def __init__(self, model: onnx.ModelProto) -> None:
        Counted.made += 1

    def infer(self, feeds: Any) -> Any:
        return {"y": Counted.open}

    def __enter__(self) -> Any:
        Counted.open += 1
        return self

    def __exit__(self, *_: object) -> None:
        Counted.open -= 1


def test_one_runner_a_model_until_the_end() -> None:
    Counted.open = Counted.made = 0
    models = [helper.make_model(helper.make_graph([], name, [], [])) for name in ("a", "b")]
    with KeptOpen(Counted) as factory:
        for model in (*models, *models):
            with factory(model) as runner:
                assert runner.name == "counted" and runner.infer({}) == {"y": Counted.open}
        assert (Counted.made, Counted.open) == (2, 2)
    assert Counted.open == 0
