"""Reading trained weights from files that others wrote, and putting them into a model without leaving a doubt.

`read_checkpoint` turns any of the usual layouts into a plain `{key: tensor}`; `load_strict` matches that with a model,
key by key and shape by shape, and lists what does not fit.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from bnn_deploy.errors import InputRefused

CONTAINERS: Final = ("state_dict", "net", "model", "model_state_dict")
LISTED: Final = 10  # Of each kind of misfit; a message of a thousand keys helps nobody.

# `nn.DataParallel` puts `module.` before the keys of what it wraps, which need not be the whole model;
# `torch.compile` does the same with `_orig_mod.`.
_WRAPPER = re.compile(r"(^|\.)(?:(?:module|_orig_mod)\.)+")
_PICKLE_START, _ZIP_START, _TAR_MAGIC = b"\x80", b"PK\x03\x04", b"ustar"


@runtime_checkable
class ReadsPublishedKeys(Protocol):
    """A module whose published checkpoints name or shape a parameter otherwise than it does itself."""

    def adopt_published_keys(self, state: dict[str, Tensor], prefix: str) -> None:
        """Replaces the published entries below `prefix` in `state` with the module's own."""


def strip_wrappers(key: str) -> str:
    """A key without what wrappers put into it: `features.module.conv.weight` -> `features.conv.weight`."""
    return _WRAPPER.sub(r"\1", key)


def read_checkpoint(path: str | Path, *, trust: bool = False) -> dict[str, Tensor]:
    """Reads the weights in a file.

    A name that ends in `.safetensors` is read as such, anything else as `torch.save` wrote it: the state dict itself
    or one of `CONTAINERS` around it, wrappers' prefixes removed.

    Args:
        path: The file.
        trust: Unpickle whatever the file holds, which may run code of its author's.

    Returns:
        Keys and tensors, on the CPU.

    Raises:
        InputRefused: The file is missing, damaged, no checkpoint, or needs trust that was not given.
    """
    path = Path(path)
    _check_is_file(path)
    if path.suffix == ".safetensors":
        return _unwrapped(path, _read_safetensors(path))
    _check_is_pickle(path)
    return _unwrapped(path, _read_pickle(path, trust))


def read_metadata(path: str | Path) -> dict[str, str]:
    """The free text that a safetensors file carries about itself.

    Raises:
        InputRefused: The file is missing or damaged.
    """
    path = Path(path)
    _check_is_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def load_strict(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Copies weights into a model, where each key and shape must match.

    `num_batches_tracked` may be missing, for checkpoints older than PyTorch 0.4.1 have none. A model that wraps a part
    in `nn.DataParallel` itself takes keys without the prefix too.

    Args:
        module: Where the weights go; untouched if they do not fit.
        state: What `read_checkpoint` returns.
        where: The file, for the message.

    Raises:
        InputRefused: Lists what is missing, what is left over and what has another shape.
    """
    found = misfits(module, state)
    if found:
        raise InputRefused(
            where,
            f"the weights do not fit the model: {found}",
            f"exactly the keys and shapes of {type(module).__name__}",
            "choose the model that the file was made with, or give the keyword arguments that it was built with",
        )
    given, own_keys = _matched(module, state)
    # Not strict: what may be missing has been decided above.
    module.load_state_dict({own: given[key] for key, own in own_keys.items() if key in given}, strict=False)


def misfits(module: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What keeps `state` from fitting `module`, in words; empty where it fits. The module may be on the meta device."""
    given, own_keys = _matched(module, state)
    shapes = {key: value.shape for key, value in module.state_dict().items() if isinstance(value, Tensor)}
    missing = [key for key in own_keys if key not in given and not key.endswith("num_batches_tracked")]
    left_over = [key for key in given if key not in own_keys]
    misshapen = [
        f"{key} {list(given[key].shape)} where the model has {list(shapes[own])}"
        for key, own in own_keys.items()
        if key in given and own in shapes and given[key].shape != shapes[own]
    ]
    parts = [_listing("missing", missing), _listing("left over", left_over), _listing("of another shape", misshapen)]
    return "; ".join(part for part in parts if part)


def _matched(module: nn.Module, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """(`state` in the module's own names, the module's keys by those names); both without wrappers' prefixes."""
    given = {strip_wrappers(key): value for key, value in state.items()}
    for name, part in module.named_modules():
        if isinstance(part, ReadsPublishedKeys):
            part.adopt_published_keys(given, strip_wrappers(f"{name}.") if name else "")
    return given, {strip_wrappers(key): key for key in module.state_dict()}


def _listing(label: str, keys: list[str]) -> str:
    if not keys:
        return ""
    more = f", and {len(keys) - LISTED} more" if len(keys) > LISTED else ""
    return f"{len(keys)} {label} ({', '.join(keys[:LISTED])}{more})"


def _check_is_file(path: Path) -> None:
    wanted = "a checkpoint that torch.save or safetensors wrote"
    if not path.exists():
        raise InputRefused(str(path), "no such file", wanted, "check the path")
    if path.is_dir():
        raise InputRefused(str(path), "this is a directory", wanted, "give the file inside it")
    if path.stat().st_size == 0:
        raise InputRefused(str(path), "the file is empty", wanted, "download or copy it again")


def _check_is_pickle(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(512)
    if head.startswith((_PICKLE_START, _ZIP_START)) or head[257:262] == _TAR_MAGIC:
        return
    shown = head[:60].decode("ascii", errors="replace").splitlines()
    raise InputRefused(
        str(path),
        f"not a checkpoint; it begins with {shown[0] if shown else ''!r}",
        "a file that torch.save wrote, or one named *.safetensors",
        "see whether the download brought a web page or a pointer to the file in its place",
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (it is no mapping)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path, trust: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # What torch warns of is refused below.
            return torch.load(path, map_location="cpu", weights_only=not trust)
    except pickle.UnpicklingError as error:
        if trust or _is_damaged_pickle(path):
            raise _damaged(path, error) from error
        raise InputRefused(
            str(path),
            f"it holds more than tensors: {_what_was_refused(error)}",
            "a file that torch.load reads with weights_only=True",
            "if you trust its author, pass --trust-checkpoint (trust_checkpoint=True), which may run code in the file",
        ) from error
    except (AttributeError, ImportError) as error:  # Only with trust: the classes of what was pickled are not here.
        raise InputRefused(
            str(path), f"it needs code that is not found: {error}", fix="give the folder of that code with --sys-path"
        ) from error
    except Exception as error:  # A damaged pickle can raise anything.
        if "TorchScript" in str(error):
            raise InputRefused(
                str(path), "a TorchScript archive", "the weights alone", "save the model's state_dict() and give that"
            ) from error
        raise _damaged(path, error) from error


def _is_damaged_pickle(path: Path) -> bool:
    """Whether a file of the layout before PyTorch 1.6 ends within one of its four pickles; nothing is executed.

    Cut in the middle of a class's name it looks as if it held an unknown class, and to trust it would not help. The
    later layout is a zip, whose directory is at its end: cut short it does not open at all.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP_START)) == _ZIP_START:
            return False
        file.seek(0)
        try:
            for _ in range(4):
                for _operation in pickletools.genops(file):
                    pass
        except Exception:  # Rubbish ends in more than ValueError, for example in a length beyond all memory.
            return True
    return False


def _what_was_refused(error: Exception) -> str:
    """The class or function that `weights_only=True` stumbled over, out of torch's page of advice."""
    found = re.search(
        r"GLOBAL ([\w.]+)|global:? `?([\w.]+\.[\w.]+)|(Unsupported operand \d+|Unsupported class [\w.]+)", str(error)
    )
    return next(group for group in found.groups() if group) if found else str(error).strip().splitlines()[-1]


def _damaged(path: Path, error: Exception) -> InputRefused:
    # The first sentence: torch adds a paragraph of advice.
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0]
    return InputRefused(str(path), f"the file is damaged or cut short: {reason}", fix="download or copy it again")


def _unwrapped(path: Path, content: Any) -> dict[str, Tensor]:
    """Whatever the file held, down to the state dict."""
    if isinstance(content, nn.Module):
        content = content.state_dict()
    while isinstance(content, Mapping):
        inner = next((content[name] for name in CONTAINERS if _holds_state(content.get(name))), None)
        if inner is None:
            break
        content = inner.state_dict() if isinstance(inner, nn.Module) else inner
    if not isinstance(content, Mapping) or not content:
        raise InputRefused(str(path), f"it holds {_kind(content)}", _wanted())
    strangers = [str(key) for key, value in content.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if strangers:
        raise InputRefused(str(path), f"it holds more than tensors at its top level: {_some(strangers)}", _wanted())
    state = {strip_wrappers(key): value for key, value in content.items()}
    # Two keys that differ in their wrapper alone are two tensors: keep them apart, `load_strict` lists them.
    return state if len(state) == len(content) else dict(content)


def _holds_state(value: Any) -> bool:
    return isinstance(value, Mapping | nn.Module)


def _kind(content: Any) -> str:
    return "nothing" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def _some(keys: Iterable[str]) -> str:
    keys = list(keys)
    return ", ".join(keys[:LISTED]) + (f", and {len(keys) - LISTED} more" if len(keys) > LISTED else "")


def _wanted() -> str:
    names = ", ".join(repr(name) for name in CONTAINERS)
    return f"a state dict (keys to tensors), or one under {names}"
