"""From a PyTorch module to an ONNX graph of training-level ops, by either of PyTorch's exporters.

The module runs user code. `torch.export.export(strict=False)` comes first because it fails with an exception where the
exporters would take the process down (a write to `.data` inside forward, for one), and its program is then what is
exported: the module is run once.
"""

from __future__ import annotations

import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import onnx
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bnn_deploy import opset
from bnn_deploy.errors import InputRefused
from bnn_deploy.nn.export_mode import symbolic_capture
from bnn_deploy.nn.layer import name_layers

DYNAMIC_CHOICES = ("batch", "batch,spatial", "none")
EXPORTERS = ("dynamo", "legacy")
_SPATIAL_NAMES = ("height", "width", "depth")


def capture(
    model: nn.Module, example_inputs: Sequence[Tensor], *, dynamic: str = "batch", exporter: str = "dynamo"
) -> ir.Model:
    """Exports `model` to a graph that holds our training-level ops.

    Args:
        model: Any module; it is run in evaluation mode and left in the mode it was in.
        example_inputs: One tensor for each input, float32 [N, C, *spatial] or [N, C].
        dynamic: Which sizes stay free: `"batch"`, `"batch,spatial"` or `"none"`.
        exporter: `"dynamo"` or `"legacy"`.

    Returns:
        The graph, its free sizes named `batch`, `height`, `width`; outputs `output`, or `output_0`, `output_1`...

    Raises:
        InputRefused: The model cannot be captured. The message holds the cause in PyTorch's words, and what to try.
    """
    _check_choice("--dynamic", dynamic, DYNAMIC_CHOICES)
    _check_choice("--exporter", exporter, EXPORTERS)
    inputs = tuple(_captured_example(tensor) if dynamic != "none" else tensor for tensor in example_inputs)
    name_layers(model)
    with _evaluation_mode(model), torch.no_grad(), _quiet():
        captured = (_capture_dynamo if exporter == "dynamo" else _capture_legacy)(model, inputs, dynamic)
    _name_outputs(captured)
    return captured


def _capture_dynamo(model: nn.Module, inputs: tuple[Tensor, ...], dynamic: str) -> ir.Model:
    sizes = tuple(
        dict.fromkeys(_free_axes(tensor, dynamic), torch.export.Dim.DYNAMIC) if dynamic != "none" else None
        for tensor in inputs
    )
    try:
        with symbolic_capture():
            program = torch.export.export(model, inputs, strict=False, dynamic_shapes=_as_signature(model, sizes))
    except (Exception, SystemExit) as error:
        raise _capture_refused(model, error, dynamic) from error
    try:
        exported = torch.onnx.export(program, verbose=False, opset_version=opset.ONNX_OPSET)
    except Exception as error:
        raise _conversion_refused(model, error, "legacy") from error
    if exported is None:
        raise InputRefused(type(model).__name__, "PyTorch's exporter returned nothing")
    captured = exported.model
    _name_sizes(captured, dynamic)
    return captured


def _capture_legacy(model: nn.Module, inputs: tuple[Tensor, ...], dynamic: str) -> ir.Model:
    names = _input_names(model, len(inputs))
    free = {
        name: {axis: _size_name(axis) for axis in _free_axes(tensor, dynamic)}
        for name, tensor in zip(names, inputs, strict=True)
    }
    buffer = io.BytesIO()
    try:
        outputs = [leaf for leaf in tree_leaves(model(*inputs)) if isinstance(leaf, Tensor)]
    except (Exception, SystemExit) as error:
        raise _capture_refused(model, error, dynamic) from error
    try:
        output_names = [_output_name(index, len(outputs)) for index in range(len(outputs))]
        for name, tensor in zip(output_names, outputs, strict=True):
            if dynamic != "none" and tensor.dim() > 0 and tensor.shape[0] == inputs[0].shape[0]:
                free[name] = {0: "batch"}
        torch.onnx.export(
            model,
            inputs,
            buffer,  # type: ignore[arg-type]  # the older exporter writes to any file object
            dynamo=False,
            input_names=names,
            output_names=output_names,
            dynamic_axes=free if dynamic != "none" else None,
            opset_version=opset.ONNX_OPSET,
            custom_opsets={opset.DOMAIN: opset.VERSION},
        )
    except (Exception, SystemExit) as error:
        raise _conversion_refused(model, error, "dynamo") from error
    return ir.from_proto(onnx.load_from_string(buffer.getvalue()))


def _captured_example(tensor: Tensor) -> Tensor:
    """A batch of 1 would be taken for a constant; two of the same image are not."""
    return torch.cat([tensor, tensor]) if tensor.dim() > 0 and tensor.shape[0] == 1 else tensor


def _free_axes(tensor: Tensor, dynamic: str) -> list[int]:
    axes = [] if dynamic == "none" or tensor.dim() == 0 else [0]
    return axes + (list(range(2, tensor.dim())) if "spatial" in dynamic else [])


def _size_name(axis: int) -> str:
    return "batch" if axis == 0 else _SPATIAL_NAMES[axis - 2]


def _as_signature(model: nn.Module, sizes: tuple[Any, ...]) -> Any:
    """`torch.export` wants sizes in the shape of the signature: a `*args` parameter takes them all as one tuple."""
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    return (sizes,) if kinds[:1] == [inspect.Parameter.VAR_POSITIONAL] else sizes


def _input_names(model: nn.Module, count: int) -> list[str]:
    parameters = inspect.signature(model.forward).parameters.values()
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[:count] if len(names) >= count else [f"input_{index}" for index in range(count)]


def _name_sizes(model: ir.Model, dynamic: str) -> None:
    """`s77` becomes `batch`, everywhere it occurs, also inside expressions such as `(s53 - 1)//2 + 1`."""
    if dynamic == "none":
        return
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, ir.SymbolicDim) and size.value is not None:
                names.setdefault(size.value, _size_name(axis))
    if not names:
        return
    pattern = re.compile(r"\b(" + "|".join(re.escape(name) for name in names) + r")\b")
    values = [*model.graph.inputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.shape is None:
            continue
        value.shape = ir.Shape(
            [
                ir.SymbolicDim(pattern.sub(lambda match: names[match.group()], size.value))
                if isinstance(size, ir.SymbolicDim) and size.value is not None
                else size
                for size in value.shape
            ]
        )


def _name_outputs(model: ir.Model) -> None:
    outputs = model.graph.outputs
    taken = {value.name for value in model.graph.inputs}
    for index, value in enumerate(outputs):
        name = _output_name(index, len(outputs))
        if name not in taken and not value.is_graph_input() and not value.is_initializer():
            value.name = name


def _output_name(index: int, count: int) -> str:
    return "output" if count == 1 else f"output_{index}"


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the exporters' deprecation notices and missing-torchvision remarks out of the user's terminal."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def _capture_refused(model: nn.Module, error: BaseException, dynamic: str) -> InputRefused:
    if isinstance(error, InputRefused):
        return error
    cause, text = _first_lines(error), str(error)
    hint = "run model(example_inputs) on its own first; if that works, simplify the line that the message names"
    if "fake tensor" in text:
        hint = "forward writes to a tensor in place (to a parameter's .data, for one); compute a new tensor instead"
    elif "data-dependent" in text:
        hint = "forward branches on the values of a tensor; use torch.where, so that both sides are computed"
    elif "Constraints violated" in text or "specialized" in text:
        hint = f"forward fixes a size that --dynamic {dynamic} leaves free; pass --dynamic none, or use x.shape"
    return InputRefused(
        type(model).__name__, f"PyTorch could not capture forward: {cause}", "a forward that torch.export accepts", hint
    )


def _conversion_refused(model: nn.Module, error: BaseException, other: str) -> InputRefused:
    if isinstance(error, InputRefused):
        return error
    return InputRefused(
        type(model).__name__,
        f"PyTorch could not convert the network to ONNX: {_first_lines(error)}",
        "ops that PyTorch's ONNX exporter knows",
        f"replace the op that the message names, or try --exporter {other}",
    )


def _first_lines(error: BaseException, limit: int = 300) -> str:
    deepest = error
    while deepest.__cause__ is not None:
        deepest = deepest.__cause__
    text = " ".join(line.strip() for line in str(deepest).strip().splitlines()[:4] if line.strip())
    return f"{type(deepest).__name__}: {text[:limit]}"


def _check_choice(option: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputRefused(option, repr(value), f"one of {', '.join(choices)}")
