"""`bnn-deploy engine`: a TensorRT engine of an exported file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnn_deploy.cli import output
from bnn_deploy.cli.files import model_file
from bnn_deploy.cli.parsing import output_file
from bnn_deploy.errors import InputRefused
from bnn_deploy.files import ENGINE_SUFFIX

if TYPE_CHECKING:
    from bnn_deploy.tensorrt.metadata import EngineMetadata
    from bnn_deploy.tensorrt.profiles import Profile

MIB = 1024 * 1024

# What the library calls an argument -> what it is called here.
FLAGS = {
    "engine": "--out",
    "workspace_bytes": "--workspace",
    "timing_cache": "--timing-cache",
    "version_compatible": "--version-compatible",
    "embed_plugin": "--embed-plugin",
}


def engine(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An ONNX file, or a folder that export wrote.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="The engine; by default beside the model, as model.engine."),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option(
            metavar="AXIS=MIN,OPT,MAX[;...]",
            help="Sizes to serve, as 'batch=1,8,32'; may be repeated. Default: a free batch is 1,8,32.",
        ),
    ] = None,
    workspace: Annotated[int | None, typer.Option(min=1, metavar="MIB", help="Scratch memory of a kernel.")] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Timings, kept from one build to the next.")
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Let later versions of TensorRT load the engine.")
    ] = False,
    embed_plugin: Annotated[
        bool, typer.Option("--embed-plugin", help="Put the plugin's library into the engine.")
    ] = False,
    plugin: Annotated[
        bool, typer.Option("--plugin/--no-plugin", help="Without, 1-bit layers are float, and slow.")
    ] = True,
    json: Annotated[bool, typer.Option("--json", help="Print the engine's metadata as JSON.")] = False,
) -> int:
    """Build a TensorRT engine, its 1-bit layers run by our plugin."""
    from bnn_deploy.tensorrt.build import build_engine
    from bnn_deploy.tensorrt.options import BuildOptions

    path = model_file(file)
    target = out if out is not None else path.with_suffix(ENGINE_SUFFIX)
    output_file("--out", target, str(target / "model.engine"))  # before a build that takes long
    if timing_cache is not None:
        output_file("--timing-cache", timing_cache)
    profiles = [parse_profile(text) for text in profile or []]
    with _named_as_flags(), _progress_bar() as tell:
        options = BuildOptions(
            workspace_bytes=workspace * MIB if workspace is not None else None,
            timing_cache=timing_cache,
            version_compatible=version_compatible,
            embed_plugin=embed_plugin,
        )
        metadata = build_engine(path, target, profiles=profiles, use_plugin=plugin, options=options, progress=tell)
    if json:
        output.print_json(asdict(metadata))
    else:
        print_summary(target, metadata)
    return 0


def parse_profile(text: str) -> Profile:
    """`batch=1,8,32;height=224,224,448` -> the sizes of each axis; one number stands for all three.

    Raises:
        InputRefused: It does not read so, or the sizes are out of order.
    """
    from bnn_deploy.tensorrt.profiles import SizeRange

    profile: dict[str, SizeRange] = {}
    for part in text.split(";"):
        axis, _, sizes = (piece.strip() for piece in part.partition("="))
        try:
            numbers = [int(number) for number in sizes.split(",")]
        except ValueError:
            numbers = []
        if not axis or axis in profile or len(numbers) not in (1, 3):
            found = f"{axis!r} twice" if axis in profile else repr(part)
            raise InputRefused(f"--profile {text!r}", found, "AXIS=MIN,OPT,MAX", "--profile 'batch=1,8,32'")
        profile[axis] = SizeRange(*(numbers * 3 if len(numbers) == 1 else numbers))
    return profile


def print_summary(path: Path, metadata: EngineMetadata) -> None:
    """What was built, layer by layer."""
    rows = [
        {
            "layer": layer["name"],
            "kind": layer["kind"].lower(),
            "outputs": ", ".join(f"{out['type'].lower()} {_shape(out['shape'])}" for out in layer["outputs"]),
            "formats": ", ".join(out.get("format", "") for out in layer["outputs"]),
            "bytes": f"{layer['bytes']:,}",
        }
        for layer in metadata.layers
    ]
    formats = ("formats",) if any(row["formats"].strip(", ") for row in rows) else ()
    output.print_table(("layer", "kind", "outputs", *formats, "bytes"), rows, right=("bytes",))
    plugins = sum(layer["kind"].startswith("PLUGIN") for layer in metadata.layers)
    typer.echo(f"{len(rows)} layers, {plugins} of them our plugins; {metadata.precision}")
    for profile in metadata.profiles:
        typer.echo("profile: " + "; ".join(f"{axis} {'..'.join(map(str, sizes))}" for axis, sizes in profile.items()))
    typer.echo(f"{path}: {path.stat().st_size:,} bytes, for {metadata.sdk} {metadata.sdk_version}")


def _shape(sizes: list[int]) -> str:
    return "x".join("?" if size < 0 else str(size) for size in sizes)


@contextmanager
def _named_as_flags() -> Iterator[None]:
    """What the library refuses by the name of an argument, under the name that the user gave it."""
    try:
        yield
    except InputRefused as error:
        argument, blank, value = error.where.partition(" ")
        if argument not in FLAGS:
            raise
        where = f"{FLAGS[argument]}{blank}{value}"
        raise InputRefused(where, error.found, error.wanted, error.fix) from error


@contextmanager
def _progress_bar() -> Iterator[Any]:
    """What to tell how far the build is; shows it on stderr, a bar for each phase that is not over."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    tasks: dict[str, Any] = {}

    def tell(phase: str, done: int, steps: int) -> None:
        if phase not in tasks:
            tasks[phase] = progress.add_task(phase, total=steps)
        progress.update(tasks[phase], completed=done, total=steps, visible=done < steps)

    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield tell
