"""HTML and SVG as nested calls. Text is escaped unless it is markup already."""

from __future__ import annotations

from html import escape


class Markup(str):
    """Text that is markup: it has been escaped, and is put in as it is."""

    __slots__ = ()


VOID = ("br", "meta")


def element(tag: str, *children: str, **attributes: str | float | None) -> Markup:
    """`element("rect", element("title", "a < b"), x=3, stroke_width=2)`.

    Args:
        tag: Its name.
        children: Markup, or text, which is escaped.
        attributes: Underscores become hyphens, one at the end (`class_`) goes; None leaves the attribute out.
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_text(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{tag}{shown}>" if tag in VOID else f"<{tag}{shown}>{join(*children)}</{tag}>")


def join(*children: str) -> Markup:
    """Several, one behind the other."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
