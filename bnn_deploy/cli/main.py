"""The entry point of `bnn-deploy`."""

from __future__ import annotations

from collections.abc import Sequence

from bnn_deploy.cli.app import app
from bnn_deploy.cli.errors import report
from bnn_deploy.errors import BnnDeployError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: What stands after `bnn-deploy`; None takes it from the command line of the process.

    Returns:
        The exit status: 0 success, 1 a check failed, 2 the input was refused, 130 interrupted. An exception that is
        not a `BnnDeployError` is a bug of ours and passes through.
    """
    try:
        app(args=arguments, prog_name="bnn-deploy")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BnnDeployError as error:
        report(error)
        return error.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
