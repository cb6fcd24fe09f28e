"""`python -m bnn_deploy` is `bnn-deploy`."""

from __future__ import annotations

import sys

from bnn_deploy.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
