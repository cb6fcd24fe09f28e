"""TensorRT engines of the exported file. `engine` builds one; `sdk` finds TensorRT, or TensorRT-RTX.

Nothing here is imported by the rest of the library until it is asked for: TensorRT is large, and optional.
"""
