#!/bin/sh
# Unpacks the bundle that lies around this file, tests and measures, and leaves gpu-bundle.json and gpu-bundle.log.
# PYTHON names the interpreter; --help has the rest.
exec "${PYTHON:-python3}" "$(dirname "$0")/run_bundle.py" "$@"
