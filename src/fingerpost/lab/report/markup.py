"""HTML that escapes by default: a string is data unless it is `Markup`."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable
from typing import Any

_VOID = frozenset({"meta", "link", "img", "input", "br", "hr"})


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def escape(value: Any) -> Markup:
    """Escapes `value` for HTML text and quoted attributes; `Markup` passes unchanged."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def join(parts: Iterable[Any]) -> Markup:
    """Joins parts into one piece of HTML; plain strings are escaped, None is left out."""
    return Markup("".join(escape(part) for part in parts if part is not None))


def tag(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """Builds one element.

    Args:
      name: The element's name.
      children: Its content: `Markup`, plain text (escaped) or None (left out).
      attributes: Its attributes; ``class_`` and ``for_`` lose their underscore, other underscores become
        hyphens; True gives a bare attribute, None and False none at all.

    Returns:
      The element as HTML.

    >>> tag("a", "x < y", href="#top", class_="link")
    '<a href="#top" class="link">x &lt; y</a>'
    """
    opening = "".join([name, *(_attribute(key, value) for key, value in attributes.items())])
    if name in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{join(children)}</{name}>")


def _attribute(key: str, value: Any) -> str:
    key = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    return f" {key}" if value is True else f' {key}="{escape(value)}"'


def json_block(data: Any, **attributes: Any) -> Markup:
    """Embeds `data` as a JSON block that no string in it can leave; NaN and infinities become null."""
    text = json.dumps(_finite(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Markup(text), type="application/json", **attributes)


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    return [_finite(value) for value in data] if isinstance(data, (list, tuple)) else data


def slug(text: str) -> str:
    """Makes an id out of any text: lower-case letters, digits and hyphens.

    >>> slug("EP digits: β → 0")
    'ep-digits-0'
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "x"


_URL = re.compile(r"https?://[^\s<>\"']*[^\s<>\"'.,;:)\]]")


def linkify(text: str) -> Markup:
    """Escapes `text` and makes its http(s) addresses links that are followed only when clicked."""
    parts: list[Any] = []
    end = 0
    for match in _URL.finditer(text):
        url = match.group()
        parts += [text[end : match.start()], tag("a", url, href=url, rel="noopener noreferrer")]
        end = match.end()
    return join([*parts, text[end:]])
