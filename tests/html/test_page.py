"""The page: well-formed, self-contained, and with everything in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bnn_deploy.html import render_page
from bnn_deploy.inspection import ExportHistory, GraphTotals, Inspection, PassRow, inspect_file

NETWORKS = ("Residual", "Assorted", "Ternary")
EVIL = '"><script>alert(1)</script>&amp;'


@pytest.fixture(params=NETWORKS)
def found(request: pytest.FixtureRequest, deployed: Callable[..., Any]) -> Inspection:
    return inspect_file(deployed(request.param).path)


@pytest.fixture
def history() -> ExportHistory:
    passes = (PassRow("DidNothingPass", 0, ()), PassRow("FoldPass", 7, (("conv9", "because of this"),)))
    return ExportHistory("net", 123_456, GraphTotals(90, 80, 7_000_000, {"Conv": 60, "Sign": 30}), passes)


def test_has_every_layer_node_and_reason(found: Inspection, html_reader: Any) -> None:
    page = html_reader(render_page(found, None, title="some network"))
    assert "some network" in page.text
    for layer in found.layers:
        assert layer.name in page.text
        assert (layer.reason or "") in page.text and (layer.advice or "") in page.text
    assert page.classes.count("node") == len(found.nodes) + len(found.inputs) + len(found.outputs)
    lines = sum(len(set(node.inputs)) for node in found.nodes) + len(found.outputs)
    assert "svg" in page.tags and page.classes.count("edge") == lines


def test_opens_without_a_network_and_runs_nothing(found: Inspection, history: ExportHistory, html_reader: Any) -> None:
    text = render_page(found, history, title="net")
    page = html_reader(text)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form", "use", "image"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]


def test_light_and_dark(found: Inspection) -> None:
    assert "@media (prefers-color-scheme: dark)" in render_page(found, None, title="net")


def test_every_colour_has_a_value_in_both_schemes(found: Inspection) -> None:
    style = render_page(found, None, title="net").split("<style>")[1].split("</style>")[0]
    light, dark = (set(re.findall(r"(--[\w-]+):", text)) for text in style.split("@media", 1))
    assert set(re.findall(r"var\((--[\w-]+)\)", style)) == light == dark


def test_before_and_after(found: Inspection, history: ExportHistory, html_reader: Any) -> None:
    page = html_reader(render_page(found, history, title="net")).text
    assert "Before and after" in page
    assert f"kernels an image, of {80}" in page
    assert "7.00 MB" in page and "123 kB" in page
    assert "Sign" in page, "an op that only the float twin has"
    assert "FoldPass" in page and "conv9: because of this" in page


def test_without_a_report_it_says_where_to_get_one(found: Inspection, html_reader: Any) -> None:
    page = html_reader(render_page(found, None, title="net")).text
    assert "Before and after" not in page and "bnn-deploy export" in page


def test_advice_that_holds_for_several_layers_is_told_once(deployed: Callable[..., Any], html_reader: Any) -> None:
    found = inspect_file(deployed("Residual").path)
    layers = tuple(replace(layer, advice="do this instead") for layer in found.layers)
    page = html_reader(render_page(replace(found, layers=layers), None, title="net")).text
    assert page.count("do this instead") == 1
    assert page.count(f"As for {layers[0].name}.") == len(layers) - 1


def test_names_cannot_break_out(found: Inspection, history: ExportHistory, html_reader: Any) -> None:
    """Whoever made the file chose the names in it."""
    evil = replace(
        found,
        layers=tuple(replace(layer, name=EVIL, reason=EVIL) for layer in found.layers),
        nodes=tuple(replace(node, name=EVIL, op_type=EVIL) for node in found.nodes),
        float_weights=tuple(replace(weight, name=EVIL, used_by=(EVIL,)) for weight in found.float_weights),
    )
    past = replace(history, passes=(PassRow(EVIL, 1, ((EVIL, EVIL),)),))
    page = html_reader(render_page(evil, past, title=EVIL))
    assert "script" not in page.tags and EVIL in page.text


def test_sizes_that_are_not_known(found: Inspection, html_reader: Any) -> None:
    nodes = tuple(replace(node, outputs=dict.fromkeys(node.outputs)) for node in found.nodes)
    layers = tuple(replace(layer, macs=None) for layer in found.layers)
    blurred = replace(found, nodes=nodes, layers=layers, inputs=dict.fromkeys(found.inputs))
    page = html_reader(render_page(blurred, None, title="net")).text
    assert "of unknown size" in page
