"""How the user sees an error: as one line on stderr."""

from __future__ import annotations

from bnn_deploy.errors import BnnDeployError, CheckFailed, InputRefused


def one_line(text: str) -> str:
    """`text` with every run of line breaks and blanks as one blank."""
    return " ".join(text.split())


def report(error: BnnDeployError) -> None:
    """Prints `error: where: found; wanted: ...; fix: ...` on stderr, without a traceback and without wrapping.

    A path cut in two by a narrow terminal cannot be copied from it, so the line is as long as it needs to be. Only what
    is neither a refusal nor a failed check, a bug of ours with its trace in the message, keeps its lines.
    """
    from rich.console import Console
    from rich.text import Text

    message = one_line(str(error)) if isinstance(error, InputRefused | CheckFailed) else str(error)
    Console(stderr=True, soft_wrap=True, highlight=False).print(Text.assemble(("error: ", "bold red"), message))
