"""The mended file: the 1-bit layers of a deployed file as the PyTorch network has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from bnn_deploy import bits, opset
from bnn_deploy.bits import Levels
from bnn_deploy.parity.twins import layer_names
from bnn_deploy.runners.base import LayerRecord, Recording


def mend(model: onnx.ModelProto, recording: Recording) -> onnx.ModelProto:
    """A copy whose 1-bit layers have the weights, levels, geometry, scale and bias that the PyTorch network has.

    Scale and bias are one of the forms in `LayerRecord.responses`; where none is like the file's, they stay.
    """
    records = {record.name: record for record in recording.layers}
    mended = onnx.ModelProto()
    mended.CopyFrom(model)
    for node in mended.graph.node:
        if node.domain != opset.DOMAIN or node.op_type not in opset.WEIGHT_OPS:
            continue
        names = layer_names(node)
        if set(names) <= records.keys():
            _mend_layer(mended, node, [records[name] for name in names])
    return mended


def _mend_layer(model: onnx.ModelProto, node: onnx.NodeProto, records: list[LayerRecord]) -> None:
    first = records[0]
    weight = np.concatenate([record.weight for record in records])
    words = bits.pack_levels(np.moveaxis(weight, 1, -1), Levels.BIPOLAR)
    node.input[1] = f"{node.input[1]}.mended.{node.name}"
    model.graph.initializer.append(numpy_helper.from_array(words, node.input[1]))
    values: dict[str, Any] = {"channels": first.x.shape[first.channel_axis]}
    if first.geometry is not None:
        geometry = first.geometry
        values |= {"strides": geometry.strides, "pads": geometry.pads, "dilations": geometry.dilations}
        values |= {"group": geometry.group, "pad_value": float(geometry.pad_value)}
    if (first.x == -1).any():
        values["low"] = -1.0
    elif (first.x == 0).any():
        values["low"] = 0.0
    for entry in list(node.attribute):
        if entry.name in values:
            node.attribute.remove(entry)
            node.attribute.append(helper.make_attribute(entry.name, values[entry.name]))
    if node.op_type not in opset.BITS_OPS:
        _mend_affine(model, node, records)


def _mend_affine(model: onnx.ModelProto, node: onnx.NodeProto, records: list[LayerRecord]) -> None:
    """Scale and bias, inputs 2 and 3, as the form of them that the records know and the file was made from."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    if not all(name in arrays for name in node.input[2:4]):
        return
    own = np.stack([arrays[name] for name in node.input[2:4]])  # [2, O]
    mended, first = own.copy(), 0
    for record in records:
        last = first + len(record.weight)
        mended[:, first:last] = _form(record, own[:, first:last])
        first = last
    for index, array in zip((2, 3), mended, strict=True):
        node.input[index] = f"{node.input[index]}.mended.{node.name}"
        model.graph.initializer.append(numpy_helper.from_array(array, node.input[index]))


def _form(record: LayerRecord, own: NDArray[Any]) -> NDArray[Any]:
    """(scale, bias), [2, O], as the PyTorch network has them at the step that the file's are from; `own` is the file's.

    A bias that half of the channels share with a form, and is not 0, says which step it is, and so what the scale is. A
    scale says nothing of the bias, to which an offset may have been added. Where neither does, the file's stay: a guess
    would put the blame on a layer that is right.
    """
    forms = [np.stack(form.affine).astype(own.dtype) for form in record.responses if len(form.scale) == own.shape[1]]
    same = [np.isclose(form, own, rtol=1e-5, atol=0) & (form != 0) for form in forms]
    for operand, told in ((1, 2), (0, 1)):
        likely = [form[:told] for form, agree in zip(forms, same, strict=True) if agree[operand].mean() >= 0.5]
        if likely and all(np.allclose(form, likely[0], rtol=1e-5, atol=0) for form in likely):
            return np.concatenate([likely[0], own[told:]])
    return own
