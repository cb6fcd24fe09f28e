"""TensorRT engines of the exported file.

`sdk` finds TensorRT, or TensorRT-RTX, `plugin` loads our plugins, `network` has the file parsed, `engine` and `build`
build, and `loaded` and `execution` run what is built.

Nothing here is imported by the rest of the library until it is asked for: TensorRT is large, and optional.
"""
