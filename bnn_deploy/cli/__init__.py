"""The `bnn-deploy` command: one file a command, assembled in `app.py`, run by `main.py`.

Nothing here imports torch, onnx or onnxruntime before a command that needs them runs, so that `--help` answers at once.
Results go to stdout, progress and errors to stderr; a command returns its exit status.
"""
