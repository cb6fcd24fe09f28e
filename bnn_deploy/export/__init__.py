"""A PyTorch module becomes an ONNX file. `capture` runs PyTorch's exporter, `onnx_export` the passes after it."""

from bnn_deploy.export.onnx_export import ExportedFile, export_onnx

__all__ = ["ExportedFile", "export_onnx"]
