"""Markup is escaped unless it is markup already."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bnn_deploy.html.markup import Markup, element, join

# What XML can hold at all.
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff"))


@given(TEXT, TEXT)
def test_whatever_the_text_it_comes_back(text: str, value: str) -> None:
    parsed = ElementTree.fromstring(element("p", text, title=value))
    assert (parsed.text or "", parsed.attrib) == (text, {"title": value})


def test_markup_is_put_in_as_it_is() -> None:
    assert element("p", element("b", "<"), " & ", Markup("<br>")) == "<p><b>&lt;</b> &amp; <br></p>"
    assert join("<", element("i")) == "&lt;<i></i>"


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({"class_": "a"}, ' class="a"'),
        ({"stroke_width": 2.0}, ' stroke-width="2"'),
        ({"x": 1 / 3}, ' x="0.333333"'),
        ({"class_": None}, ""),
        ({"title": '"><script>'}, ' title="&quot;&gt;&lt;script&gt;"'),
    ],
)
def test_attributes(attributes: dict[str, str | float | None], shown: str) -> None:
    assert element("rect", **attributes) == f"<rect{shown}></rect>"


def test_elements_without_an_end() -> None:
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'
