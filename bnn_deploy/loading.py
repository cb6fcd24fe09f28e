"""From what the user names to a model that is ready to export: a zoo name, or a factory of the user's own.

Weights come from a checkpoint, else from the zoo where it ships some, else from the factory (a user's model) or from a
seed (a zoo model; its BatchNorms are then calibrated, so that every layer sees inputs of a sensible size).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnn_deploy import user_code
from bnn_deploy.checkpoint import load_strict, misfits, read_checkpoint, read_metadata
from bnn_deploy.errors import InputRefused
from bnn_deploy.models import ZooEntry, catalogue, find
from bnn_deploy.models.summary import build, function_of
from bnn_deploy.nn import name_layers
from bnn_deploy.untrained import calibrate_batch_norms, fill_zero_weights

Shapes = tuple[tuple[int, ...], ...]
State = Mapping[str, Tensor]

# Keyword arguments that change no key, no shape and next to no value: shipped weights serve any choice of them.
HARMLESS = ("zero",)


@dataclass
class LoadedModel:
    """A model and what the report says of it.

    Args:
        module: In eval mode, float32, on the CPU.
        name: What the user asked for.
        input_shapes: Shapes with batch 1; empty where they are not known.
        weights: `"shipped"`, `"checkpoint"`, `"untrained"` (seeded) or `"user"` (as the user's factory left them).
        description: A line on where the weights come from.
    """

    module: nn.Module
    name: str
    input_shapes: Shapes
    weights: str
    description: str


def load_model(spec: str, checkpoint: str | Path | None = None, **options: Any) -> nn.Module:
    """The module of `load`, which has the options: in eval mode, float32, on the CPU."""
    return load(spec, checkpoint=checkpoint, **options).module


def load(
    spec: str,
    *,
    checkpoint: str | Path | None = None,
    kwargs: Mapping[str, Any] | None = None,
    sys_path: Sequence[str | Path] = (),
    prepare: str | None = None,
    trust_checkpoint: bool = False,
    seed: int = 0,
) -> LoadedModel:
    """Makes a model and gives it its weights; the caller's random state is left as it was.

    Args:
        spec: A zoo name, `path/to/file.py:factory` or `package.module:factory`. A factory is a class or function that
            returns an `nn.Module`, or a module itself.
        checkpoint: A file with weights that fit exactly.
        kwargs: Keyword arguments of the factory.
        sys_path: Folders to import the user's code from.
        prepare: `module:function` or `file.py:function`, called with the model once it has its weights; it may return
            another to take its place.
        trust_checkpoint: See `read_checkpoint`.
        seed: Of everything random that happens.

    Raises:
        InputRefused: Whatever of the above cannot be used, and why.
    """
    options = dict(kwargs or {})
    # Before anything is read: what a trusted checkpoint holds may need the user's code.
    user_code.add_folders(sys_path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if user_code.is_reference(spec):
            loaded = _user_model(spec, options, seed)
            if checkpoint is not None:
                load_strict(loaded.module, read_checkpoint(checkpoint, trust=trust_checkpoint), str(checkpoint))
                loaded.weights, loaded.description = "checkpoint", f"weights of {checkpoint}"
        elif checkpoint is not None:
            entry = find(spec)
            state = read_checkpoint(checkpoint, trust=trust_checkpoint)
            loaded = _zoo_model_with(entry, options, state, str(checkpoint))
        else:
            loaded = _zoo_model(find(spec), options, seed)
        loaded.module = user_code.call(spec, _settled, loaded.module)
        if prepare is not None:
            loaded.module = user_code.call(prepare, _settled, _prepared(loaded.module, prepare))
    name_layers(loaded.module)
    return loaded


def _settled(module: nn.Module) -> nn.Module:
    return module.cpu().float().eval()


def _user_model(spec: str, options: dict[str, Any], seed: int) -> LoadedModel:
    found = user_code.resolve(spec)
    if isinstance(found, nn.Module):
        if options:
            raise InputRefused(spec, "a module takes no keyword arguments", "a class or function", "leave --kwargs out")
        module: Any = found
    elif callable(found):
        user_code.check_kwargs(spec, found, options)
        torch.manual_seed(seed)  # Anew: the import may have drawn numbers, and happens once.
        module = user_code.call(spec, found, **options)
    else:
        raise InputRefused(spec, f"a {type(found).__name__}", "a class, a function or an nn.Module")
    if not isinstance(module, nn.Module):
        raise InputRefused(
            spec,
            f"it returned a {type(module).__name__}",
            "an nn.Module",
            "name a factory that returns the model alone",
        )
    return LoadedModel(module, spec, (), "user", "weights as the factory left them")


def _zoo_model(entry: ZooEntry, options: dict[str, Any], seed: int) -> LoadedModel:
    """With the shipped weights where there are some that fit, else with seeded ones."""
    module, shapes = _build(entry, options)
    path = entry.weights_path()
    if path is not None and not _changes_network(entry, options):
        if not path.is_file():
            raise InputRefused(str(path), "the shipped weights are not installed", fix="reinstall bnn_deploy")
        load_strict(module, read_checkpoint(path), str(path))
        metadata = read_metadata(path)
        accuracy = float(metadata["held_out_accuracy"])
        description = f"shipped weights, trained on {metadata['dataset']}; held-out accuracy {accuracy:.1%}"
        return LoadedModel(module, entry.name, shapes, "shipped", description)
    fill_zero_weights(module)
    user_code.call(f"model {entry.name!r}", calibrate_batch_norms, module, shapes[0][1:])
    description = f"untrained: random weights of seed {seed}, BatchNorm calibrated on random images"
    return LoadedModel(module, entry.name, shapes, "untrained", description)


def _zoo_model_with(entry: ZooEntry, options: dict[str, Any], state: State, where: str) -> LoadedModel:
    """With a checkpoint, which may decide what is built."""
    if entry.configure is not None:
        options = {**function_of(entry, entry.configure)(state, where), **options}
    module, shapes = _build(entry, options)
    try:
        load_strict(module, state, where)
    except InputRefused as refusal:
        other = _name_that_fits(state, where)
        if other is None:
            raise
        raise InputRefused(where, refusal.found, refusal.wanted, f"it fits the model {other!r}") from None
    return LoadedModel(module, entry.name, shapes, "checkpoint", f"weights of {where}")


def _build(entry: ZooEntry, options: dict[str, Any]) -> tuple[nn.Module, Shapes]:
    """The network, and the shape of its one input with batch 1."""
    where = f"model {entry.name!r}"
    user_code.check_kwargs(where, function_of(entry, entry.factory), options)
    module: nn.Module = user_code.call(where, build, entry, **options)
    shape: tuple[int, ...] = getattr(module, "input_shape", entry.input_shape)
    return module, ((1, *shape),)


def _changes_network(entry: ZooEntry, options: dict[str, Any]) -> bool:
    """Whether keyword arguments make another network than the one whose weights are shipped."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function_of(entry, entry.factory)).parameters.items()
    }
    defaults.update(entry.kwargs)
    return any(_plain(value) != _plain(defaults.get(name)) for name, value in options.items() if name not in HARMLESS)


def _plain(value: Any) -> Any:
    # JSON has lists where a default is a tuple.
    return tuple(value) if isinstance(value, list) else value


def _name_that_fits(state: State, where: str) -> str | None:
    """The zoo name that a checkpoint's keys and shapes belong to."""
    for entry in catalogue().values():
        try:
            options = function_of(entry, entry.configure)(state, where) if entry.configure else {}
        except InputRefused:
            continue
        with torch.device("meta"):
            if not misfits(build(entry, **options), state):
                return entry.name
    return None


def _prepared(module: nn.Module, prepare: str) -> nn.Module:
    function = user_code.resolve(prepare)
    if not callable(function):
        raise InputRefused(prepare, f"a {type(function).__name__}", "a function that takes the model")
    result = user_code.call(prepare, function, module)
    if result is not None and not isinstance(result, nn.Module):
        raise InputRefused(prepare, f"it returned a {type(result).__name__}", "an nn.Module or None")
    return module if result is None else result
