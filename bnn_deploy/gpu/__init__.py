"""A GPU's memory, streams and graphs, by whichever package is there: PyTorch, `cuda-python` or `pycuda`.

TensorRT brings none of its own. `device` says what a package has to be able to do, and each has a file.
"""

from bnn_deploy.gpu.device import Buffer, DeviceArray, Gpu, Graph, Stream
from bnn_deploy.gpu.find import open_gpu

__all__ = ["Buffer", "DeviceArray", "Gpu", "Graph", "Stream", "open_gpu"]
