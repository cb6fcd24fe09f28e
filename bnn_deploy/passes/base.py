"""What every pass has in common: one transformation, a count of what it did, and a reason for what it left alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir


@dataclass(frozen=True)
class Declined:
    """A place where a pass could have acted and did not."""

    layer: str
    reason: str


@dataclass
class PassResult(ir.passes.PassResult):
    """What a pass did.

    Attributes:
        model: The model, the same object that went in.
        modified: Whether anything changed.
        changes: How many places were rewritten.
        declined: Where it did not act, and why, in words that a user can act on.
    """

    changes: int = 0
    declined: tuple[Declined, ...] = field(default_factory=tuple)


class Pass(ir.passes.InPlacePass):
    """A pass of this project. Subclasses implement `call` and end with `return self.done(model, changes, declined)`."""

    @staticmethod
    def done(model: ir.Model, changes: int, declined: list[Declined] | None = None) -> PassResult:
        """The result of a pass that rewrote `changes` places."""
        return PassResult(model, changes > 0, changes, tuple(declined or ()))
