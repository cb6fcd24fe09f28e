"""The errors that users see: each says where, what was found, what is wanted and how to fix it.

The command line prints an `InputRefused` as one readable line and exits with status 2, a `CheckFailed` with status 1;
neither shows a traceback. Anything else that escapes is a bug of ours and does show one.
"""

from __future__ import annotations


class BnnDeployError(Exception):
    """Base of every error that `bnn_deploy` raises on purpose."""

    exit_status = 1


class InputRefused(BnnDeployError):
    """The user's input cannot be used as it is.

    Args:
        where: The layer, file or option that the message is about, for example `layer1.0.binary_conv`.
        found: What was found there.
        wanted: What would have been accepted.
        fix: What the user can do about it.
    """

    exit_status = 2

    def __init__(self, where: str, found: str, wanted: str = "", fix: str = "") -> None:
        self.where, self.found, self.wanted, self.fix = where, found, wanted, fix
        parts = [f"{where}: {found}"]
        if wanted:
            parts.append(f"wanted: {wanted}")
        if fix:
            parts.append(f"fix: {fix}")
        super().__init__("; ".join(parts))


class CheckFailed(BnnDeployError):
    """A check of ours (parity, build) failed: the input was accepted, the result is not good."""

    exit_status = 1


class NotYetAvailable(InputRefused):
    """A command or option that the interface names and this version does not have."""

    def __init__(self, what: str, instead: str = "") -> None:
        super().__init__(what, "not in this version of bnn_deploy", fix=instead)
