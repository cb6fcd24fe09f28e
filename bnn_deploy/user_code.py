"""Finding and calling code that the user names, so that whatever it does wrong ends in one readable message.

A name is `package.module:attribute` or `path/to/file.py:attribute`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from bnn_deploy.errors import InputRefused

FORMS = "path/to/file.py:name or package.module:name"


def is_reference(spec: str) -> bool:
    """Whether `spec` names code of the user's, rather than something of ours."""
    return ":" in spec or spec.endswith(".py") or "/" in spec


def add_folders(folders: Sequence[str | Path]) -> None:
    """Puts folders to import from at the front of `sys.path`, the first one foremost.

    They stay there: a model may import more when it is called.

    Raises:
        InputRefused: No such folder.
    """
    for folder in reversed(folders):
        if not Path(folder).is_dir():
            raise InputRefused(str(folder), "no such folder to import from", fix="check --sys-path")
        entry = str(Path(folder).resolve())
        if entry in sys.path:
            sys.path.remove(entry)
        sys.path.insert(0, entry)


def resolve(spec: str) -> Any:
    """The object that `spec` names.

    Args:
        spec: `package.module:attribute` or `path/to/file.py:attribute`; the attribute may be dotted. The folder of a
            `file.py` goes to the front of `sys.path`, as when it is run.

    Raises:
        InputRefused: No such file, module or attribute, or the import itself failed.
    """
    location, separator, attribute = spec.rpartition(":")
    if not separator or not location or not attribute:
        raise InputRefused(spec, "it names no attribute", FORMS, f"{spec.rstrip(':')}:factory, for example")
    is_file = location.endswith(".py") or "/" in location
    module = _import_file(Path(location)) if is_file else _import_module(location)
    return _attribute(spec, module, attribute)


def call(where: str, function: Callable[..., Any], *arguments: Any, **kwargs: Any) -> Any:
    """Calls code of the user's.

    Raises:
        InputRefused: It raised, or tried to leave the program; the message has the last line of its traceback.
    """
    try:
        return function(*arguments, **kwargs)
    except InputRefused:
        raise
    except (Exception, SystemExit) as error:
        raise InputRefused(where, f"it raised {_last_line(error)}", fix="see that line") from error


def check_kwargs(where: str, function: Callable[..., Any], kwargs: Mapping[str, Any]) -> None:
    """Raises `InputRefused` where the function does not know a keyword argument, or cannot do without another."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # Some callables have no signature to look at.
        return
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = [name for name in kwargs if name not in named and not takes_any]
    if unknown:
        close = difflib.get_close_matches(unknown[0], named, n=1)
        raise InputRefused(
            where,
            f"no keyword argument {', '.join(map(repr, unknown))}",
            ", ".join(named) or "none",
            f"did you mean {close[0]}?" if close else "leave it out",
        )
    absent = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in kwargs
    ]
    if absent:
        example = ", ".join(f'"{name}": ...' for name in absent)
        raise InputRefused(
            where, f"it needs arguments: {', '.join(absent)}", fix=f"--kwargs '{{{example}}}' (kwargs={{{example}}})"
        )


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        siblings = [other.name for other in path.parent.glob("*.py")] if path.parent.is_dir() else []
        close = difflib.get_close_matches(path.name, siblings, n=1)
        found = "this is a directory" if path.is_dir() else "no such file"
        raise InputRefused(str(path), found, FORMS, f"did you mean {path.with_name(close[0])}?" if close else "")
    path = path.resolve()
    add_folders([path.parent])
    # Under a name of its own: `model.py` of one folder is not `model.py` of another, nor an installed module `model`.
    # The file's time is in it too: a factory and a `prepare` share one import, an edited file gets a new one.
    identity = f"{path}:{path.stat().st_mtime_ns}".encode()
    name = f"{path.stem}_{hashlib.sha256(identity).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    loader = None if spec is None else spec.loader
    if spec is None or loader is None:
        raise InputRefused(str(path), "not a Python file", FORMS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        _run_import(str(path), lambda: loader.exec_module(module))
    except InputRefused:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InputRefused(name, "not the name of a module", FORMS)
    return _run_import(name, lambda: importlib.import_module(name))


def _run_import(where: str, do: Callable[[], Any]) -> Any:
    try:
        return do()
    except ModuleNotFoundError as error:
        raise InputRefused(
            where,
            f"importing it needs the module {error.name!r}, which is not found",
            fix="install it, or give its folder with --sys-path",
        ) from error
    except (Exception, SystemExit) as error:
        raise InputRefused(where, f"importing it raised {_last_line(error)}", fix="see that line") from error


def _attribute(spec: str, module: ModuleType, dotted: str) -> Any:
    value: Any = module
    for name in dotted.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            names = [other for other in dir(value) if not other.startswith("_")]
            close = difflib.get_close_matches(name, names, n=3)
            raise InputRefused(
                spec, f"no attribute {name!r} there", FORMS, f"did you mean {' or '.join(close)}?" if close else ""
            ) from None
    return value


def _last_line(error: BaseException) -> str:
    """`ValueError: no such thing (model.py, line 12)`: what the user would look for at the end of a traceback."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":").strip()
    if isinstance(error, SyntaxError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    # The innermost frame may lie deep inside a library; the user's own last line says more.
    ours = (str(Path(__file__).parent), "<")
    own = [f for f in frames if "site-packages" not in f.filename and not f.filename.startswith(ours)]
    return f"{text} ({own[-1].filename}, line {own[-1].lineno})" if own else text
