"""Figures from run folders, made safe and small: an allow-list of SVG, embedded as an isolated image.

A figure may come from someone else's run. What is not on the list below (scripts, event handlers, outside
references, foreign objects) is dropped; what is left is shown through ``<img>``, which runs no script, loads
nothing and keeps the ids of one figure away from those of the next.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from fingerpost.errors import InvalidValueError

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_MAX_DEPTH = 200

_SHAPES = {"path", "rect", "circle", "ellipse", "line", "polyline", "polygon", "image", "use"}
_WORDS = {"text", "tspan", "textPath", "title", "desc"}
_PAINT = {"style", "clipPath", "mask", "pattern", "marker", "linearGradient", "radialGradient", "stop"}
_ELEMENTS = {"svg", "g", "defs", "symbol"} | _SHAPES | _WORDS | _PAINT
_UNSAFE_VALUE = re.compile(
    r"javascript:|expression\(|@import|@namespace|\\|url\(\s*(?!\s*['\"]?#)", re.IGNORECASE
)
_INLINE_IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]*$")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}(?:[eE][-+]?\d+)?")
_LENGTH = re.compile(r"\s*([0-9.]+)\s*(pt|px)?\s*$")


@dataclass(frozen=True)
class Figure:
    """A figure that is safe to embed.

    Args:
      text: The cleaned SVG.
      width: Its width in CSS pixels.
      height: Its height in CSS pixels.
    """

    text: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The figure as a ``data:`` address; percent signs cost less than base64."""
        text = re.sub(r"\s+", " ", self.text).replace("%", "%25").replace("#", "%23")
        return f"data:image/svg+xml;charset=utf-8,{text}"


def clean_figure(source: str) -> Figure:
    """Keeps of an SVG document what draws, and drops what could act.

    Args:
      source: The SVG document.

    Returns:
      The figure: known elements and attributes only, references only within itself, coordinates to a
      hundredth of a unit.

    Raises:
      InvalidValueError: If it is not well-formed XML, not SVG, declares entities, or nests too deeply.

    >>> clean_figure('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)" viewBox="0 0 4 3"/>').text
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 4 3'/>"
    """
    if "<!ENTITY" in source:
        raise InvalidValueError("the figure declares XML entities, which are not read; save it without them")
    try:
        root = ElementTree.fromstring(source)
    except (ElementTree.ParseError, ValueError) as error:
        raise InvalidValueError(f"the figure is not well-formed SVG: {error}") from error
    if root.tag != f"{{{_SVG}}}svg":
        raise InvalidValueError(f"the figure's root element is {root.tag!r}, not an SVG element")
    width, height = _size(root)
    text = "".join(_serialise(root, 0))
    return Figure(text, width, height)


def _size(root: ElementTree.Element) -> tuple[int, int]:
    lengths = [_pixels(root.get("width", "")), _pixels(root.get("height", ""))]
    if not all(lengths):
        box = [float(part) for part in re.findall(r"[-+0-9.eE]*\d", root.get("viewBox", ""))[:4]]
        lengths = box[2:] if len(box) == 4 else [600.0, 400.0]
    width, height = (min(max(round(length), 1), 4000) for length in lengths)
    return width, height


def _pixels(length: str) -> float:
    match = _LENGTH.match(length)
    if match is None or match.group(1).count(".") > 1:
        return 0.0
    return float(match.group(1)) * (4 / 3 if match.group(2) == "pt" else 1)


def _serialise(element: ElementTree.Element, depth: int) -> Iterator[str]:
    name = _local_name(element)
    if name is None:
        return
    if depth > _MAX_DEPTH:
        raise InvalidValueError(f"the figure nests deeper than {_MAX_DEPTH} elements")
    namespace = f" xmlns='{_SVG}'" if depth == 0 else ""
    attributes = "".join(_attributes(element, name))
    content = "".join(_content(element, name, depth))
    yield (
        f"<{name}{namespace}{attributes}>{content}</{name}>"
        if content
        else f"<{name}{namespace}{attributes}/>"
    )


def _local_name(element: ElementTree.Element) -> str | None:
    space, _, name = str(element.tag).rpartition("}")
    return name if space == f"{{{_SVG}" and name in _ELEMENTS else None


def _content(element: ElementTree.Element, name: str, depth: int) -> Iterator[str]:
    text = element.text or ""
    if name == "style":
        yield "" if _UNSAFE_VALUE.search(text) else _escape(text.strip())
        return
    keep_blanks = name in {"text", "tspan", "textPath"}
    yield _escape(text if keep_blanks else text.strip())
    for child in element:
        yield from _serialise(child, depth + 1)
        tail = child.tail or ""
        yield _escape(tail if keep_blanks else tail.strip())


def _attributes(element: ElementTree.Element, name: str) -> Iterator[str]:
    for key, value in element.attrib.items():
        if key in {f"{{{_XLINK}}}href", "href"}:
            if value.startswith("#") or (name == "image" and _INLINE_IMAGE.match(value)):
                yield f" href='{_escape(value)}'"
        elif re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", key) and _harmless(key, value):
            yield f" {key}='{_escape(_shorten(key, value))}'"


def _harmless(key: str, value: str) -> bool:
    return not key.lower().startswith("on") and not _UNSAFE_VALUE.search(value)


def _shorten(key: str, value: str) -> str:
    if key not in {"d", "x", "y", "points"}:
        return value
    shorter = _LONG_NUMBER.sub(lambda match: f"{float(match.group()):.2f}".rstrip("0").rstrip("."), value)
    return re.sub(r"\s+", " ", shorter).strip()


def _escape(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ('"', "&#34;")):
        text = text.replace(character, entity)
    return text
