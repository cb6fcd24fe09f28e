"""What every pass reports."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import pytest

from bnn_deploy.passes.base import Declined, Pass, PassResult


class Renamed(Pass):
    """A pass that claims to have rewritten `changes` places."""

    def __init__(self, changes: int) -> None:
        super().__init__()
        self.changes = changes

    def call(self, model: ir.Model) -> PassResult:
        return self.done(model, self.changes, [Declined("conv", "because")])


@pytest.mark.parametrize(("changes", "modified"), [(0, False), (1, True), (7, True)])
def test_a_pass_has_modified_the_model_if_it_changed_a_place(toolbox: Any, changes: int, modified: bool) -> None:
    draft = toolbox.Draft(x=[1])
    model = draft.model(draft.op("Relu", draft["x"]))
    result = Renamed(changes)(model)
    assert isinstance(result, PassResult)
    assert result.model is model
    assert (result.changes, result.modified) == (changes, modified)
    assert result.declined == (Declined("conv", "because"),)


def test_a_pass_that_declines_nothing_says_so(toolbox: Any) -> None:
    draft = toolbox.Draft(x=[1])
    assert Pass.done(draft.model(draft.op("Relu", draft["x"])), 1).declined == ()
