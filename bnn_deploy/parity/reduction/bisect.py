"""Reduces a failed comparison to the smallest part of the file, and the smallest input, that still fails.

1. Every node by itself, given the reference's own tensors, all in one run. The first that fails, in the order of the
   graph, is it; or, where the file holds another constant than the PyTorch network and no single node can be blamed,
   the stretch of nodes between it and the nearest tensors that the recording knows.
2. Where each node by itself is right, the failure is in what a runner makes of several: delta debugging over the nodes
   of the whole file, cut where they may be cut, for what is made outside is given.
3. Where these too are right, a scale or a bias may be another one by no more than counts as rounding.
4. Fewer samples; then smaller images, and zeros where nothing else is needed, as long as the same nodes still fail.

The order is fixed and nothing is drawn, so that the same failure gives the same case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bnn_deploy.errors import InputRefused
from bnn_deploy.parity.adversarial import probe_model
from bnn_deploy.parity.layerwise import RunnerFactory
from bnn_deploy.parity.reduction.case import ReducedCase
from bnn_deploy.parity.reduction.delta import Budget, ddmin
from bnn_deploy.parity.reduction.oracle import Expected, Reference, Subject, of_samples, plain_reference, reference_of
from bnn_deploy.parity.reduction.shrink import shrink
from bnn_deploy.parity.reduction.subgraph import border, given, isolated
from bnn_deploy.parity.reduction.trial import PASSES, Part, Trial, outcome
from bnn_deploy.runners.base import Recording

Progress = Callable[[str], None]
MOST_RUNS = 400


def bisect(
    model: onnx.ModelProto,
    runner: str,
    factory: RunnerFactory,
    feeds: Mapping[str, NDArray[Any]],
    recording: Recording,
    *,
    reference: Callable[[], Reference] | None = None,
    most_runs: int = MOST_RUNS,
    progress: Progress = lambda stage: None,
) -> ReducedCase | None:
    """The smallest case that still fails.

    Args:
        model: The deployed file.
        runner: The name of what runs it, for the case.
        factory: Makes a runner of a model.
        feeds: Input name -> array, the inputs of a comparison that failed; the first axis is the samples.
        recording: What the PyTorch network did with them.
        reference: Makes what every tensor should be, where several runners share that; None calls `followed`.
        most_runs: Of the runner. When they are used up, the smallest case that was seen is it.
        progress: Is told what is being done.

    Returns:
        None where every part agrees with the reference within the stated tolerance, and every scale and bias exactly.

    Raises:
        InputRefused: As `followed`.
    """
    progress(f"{runner}: what every tensor should be")
    known = followed(model, feeds, recording) if reference is None else reference()
    return _reduce(model, runner, Trial(factory, Budget(most_runs)), feeds, known, progress)


def bisect_probe(
    model: onnx.ModelProto,
    runner: str,
    factory: RunnerFactory,
    name: str,
    *,
    most_runs: int = MOST_RUNS,
    progress: Progress = lambda stage: None,
) -> ReducedCase | None:
    """The same for a probe that failed, whose reference is the file: `name` is that of the binarisation."""
    probe, feeds = probe_model(model, name)
    return _reduce(probe, runner, Trial(factory, Budget(most_runs)), feeds, plain_reference(probe, feeds), progress)


def _reduce(
    model: onnx.ModelProto,
    runner: str,
    trial: Trial,
    feeds: Mapping[str, NDArray[Any]],
    reference: Reference,
    progress: Progress,
) -> ReducedCase | None:
    progress(f"{runner}: every node by itself")
    part = _first_node(trial, reference)
    if part is None:
        progress(f"{runner}: every node is right by itself; looking for those that fail together")
        part = _fewest_nodes(trial, model, reference, feeds, progress)
    if part is None:
        part = _first_wrong_constant(trial, reference)
    if part is None:
        return None
    progress(f"{runner}: {', '.join(part.names)} fails; looking for the smallest input")
    case = ReducedCase.of(shrink(trial, part, progress), runner, trial)
    progress(f"{runner}: {case.summary} [{trial.budget.spent} runs]")
    return case


def followed(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], recording: Recording) -> Reference:
    """What every tensor should be, as `reference_of` has it.

    Raises:
        InputRefused: The layers of the file are not those of the recording, so there is no reference for them.
    """
    try:
        return reference_of(model, feeds, recording)
    except (KeyError, StopIteration, ValueError, IndexError) as error:
        raise InputRefused(
            "bisect",
            f"the file cannot be followed beside the PyTorch network: {type(error).__name__}: {error}",
            "a file whose 1-bit layers are those of the network",
        ) from error


def _first_node(trial: Trial, reference: Reference) -> Part | None:
    """The first node that fails by itself, or the stretch of nodes up to it that no anchor divides."""
    subject = reference.subject
    values = {name: expected.values for name, expected in reference.known.items()}
    feeds = {value.name: values[value.name] for value in subject.file.graph.input}
    whole = isolated(subject.file, values)
    feeds |= {value.name: values[value.name.removesuffix(given(""))] for value in whole.graph.input[len(feeds) :]}
    found = trial.run(whole, feeds)
    for index, node in enumerate(subject.file.graph.node):
        names = [name for name in node.output if name]
        wrong = [name for name in names if not reference.explained(name)]
        if not isinstance(found, Exception):
            expected = {name: reference.wanted(name) if name in wrong else reference.computed[name] for name in names}
            if outcome(found, expected) == PASSES:
                continue
        part = _stretch(reference, index, wrong[0]) if wrong else _single(reference, index)
        if (failing := trial.confirmed(part)) is not None:
            return failing
    return None


def _single(reference: Reference, index: int) -> Part:
    subject = reference.subject
    read = [name for name in subject.file.graph.node[index].input if name in reference.known]
    inputs = {name: reference.known[name].values for name in read}
    return Part(subject, (index,), inputs, {name: reference.computed[name] for name in border(subject.file, (index,))})


def _stretch(reference: Reference, last: int, output: str) -> Part:
    """The nodes between `output` and the nearest anchors in front of it, which are given. Its input stays as it is:
    what these nodes should make of another one is not known."""
    subject, nodes = reference.subject, reference.subject.file.graph.node
    chosen, wanted = {last}, set(nodes[last].input)
    for index in reversed(range(last)):
        if wanted & (set(nodes[index].output) - reference.anchored):
            chosen.add(index)
            wanted |= set(nodes[index].input)
    made = {name for index in chosen for name in nodes[index].output}
    inputs = {name: reference.known[name].values for name in wanted - made if name in reference.known}
    return Part(subject, tuple(sorted(chosen)), inputs, {output: reference.wanted(output)}, computable=False)


def _first_wrong_constant(trial: Trial, reference: Reference) -> Part | None:
    """The first layer with another scale or bias than the PyTorch network's, by so little that it passes for rounding.

    What it should make of its input is, bit for bit, what the runner makes of the mended layer.
    """
    subject = reference.subject
    for index, nodes in enumerate(zip(subject.file.graph.node, subject.mended.graph.node, strict=True)):
        own, mended = (
            _constants(model, node) for model, node in zip((subject.file, subject.mended), nodes, strict=True)
        )
        if all(np.array_equal(one, other) for one, other in zip(own, mended, strict=True)):
            continue
        part = _single(reference, index)
        made = trial.run(replace(part, subject=replace(subject, file=subject.mended)).model, part.inputs)
        if isinstance(made, Exception):
            continue
        expected = {name: Expected(made[name]) for name in part.expected}
        if (failing := trial.confirmed(replace(part, expected=expected, computable=False))) is not None:
            return failing
    return None


def _constants(model: onnx.ModelProto, node: onnx.NodeProto) -> list[NDArray[Any]]:
    """Those that a node reads, in order."""
    arrays = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name in node.input}
    return [numpy_helper.to_array(arrays[name]) for name in node.input if name in arrays]


def _fewest_nodes(
    trial: Trial, model: onnx.ModelProto, reference: Reference, feeds: Mapping[str, NDArray[Any]], progress: Progress
) -> Part | None:
    """The fewest nodes of the file that fail together, each given what the reference has wherever it is cut."""
    subject = Subject(model, model, reference.subject.packs)
    known = {name: expected.values for name, expected in reference.known.items()}
    samples = next(iter(feeds.values())).shape[0]

    def part(chosen: list[int], of: list[int]) -> Part:
        nodes = model.graph.node
        made = {name for index in chosen for name in nodes[index].output}
        read = dict.fromkeys(name for index in chosen for name in nodes[index].input)
        inputs = {name: of_samples(known[name], of, samples) for name in read if name in known and name not in made}
        return Part(subject, tuple(chosen), inputs, subject.compute(chosen, inputs))

    everything, all_samples = list(range(len(model.graph.node))), list(range(samples))
    whole = trial.confirmed(part(everything, all_samples))
    if whole is None:
        return None
    few = ddmin(all_samples, lambda of: trial.fails(part(everything, of), whole.kind))
    progress(f"{len(few)} of {samples} samples are enough")

    def fails(chosen: list[int]) -> bool:
        failing = trial.fails(part(chosen, few), whole.kind)
        if failing:
            progress(f"{len(chosen)} of {len(everything)} nodes still fail")
        return failing

    return trial.confirmed(part(ddmin(everything, fails), few))
