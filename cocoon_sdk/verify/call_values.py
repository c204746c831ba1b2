"""Values in calls: finding JSON in a text, and bringing what engines write anew into one form.

Owns the reading and its bounds; must not know calls, or what is compared with what.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from cocoon_sdk.verify.texts import squeezed
from cocoon_sdk.verify.work import Work

_MOST_STARTS: Final = 512
_MOST_VALUES: Final = 20_000
_DEPTH: Final = 32
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_WORDS: Final = {"true": True, "false": False, "none": None, "null": None}


def objects(text: str, work: Work) -> tuple[list[tuple[int, Any]], bool]:
    """Return the JSON objects of a text with their places, outermost only, and whether some are none."""
    read = json.JSONDecoder(strict=False, parse_constant=str).raw_decode
    found: list[tuple[int, Any]] = []
    place, tried, broken = text.find("{"), 0, False
    while place >= 0:
        if (tried := tried + 1) > _MOST_STARTS:
            return found, True
        try:
            value, end = read(text, place)
        except json.JSONDecodeError as error:
            work.spend(error.pos - place)
            broken, end = True, place + 1
        except (ValueError, RecursionError):
            work.spend(len(text) - place)
            broken, end = True, place + 1
        else:
            work.spend(end - place)
            found.append((place, value))
        place = text.find("{", end)
    return found, broken


def values(value: Any) -> Iterator[Any]:
    """Yield a value and all that is in it, in order, up to a bound."""
    waiting, count = [value], 0
    while waiting and count < _MOST_VALUES:
        count += 1
        each = waiting.pop()
        yield each
        if isinstance(each, dict):
            waiting += reversed(each.values())
        elif isinstance(each, list | tuple):
            waiting += reversed(each)


def leaves(value: Any) -> Iterator[str | int | float]:
    """Yield names, texts and numbers; whether and nothing are left out, for parsers fill them in."""
    for each in values(value):
        if isinstance(each, dict):
            yield from each
        elif isinstance(each, str) or (isinstance(each, int | float) and not isinstance(each, bool)):
            yield each


def normal(value: Any, depth: int = 0) -> Any:
    """Return a value that the same in another type equals: "5" and 5, "True" and true, JSON in a text."""
    if depth > _DEPTH:
        return squeezed(repr(value))
    if isinstance(value, str):
        inner = loaded(value)
        return squeezed(value) if isinstance(inner, str) else normal(inner, depth + 1)
    if isinstance(value, dict):
        return {squeezed(str(key)): normal(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [normal(each, depth + 1) for each in value]
    if isinstance(value, bool) or value is None:
        return f"\0{value}"
    return value


def loaded(text: str) -> Any:
    """Return what a text is as JSON, or as a word for it; the text itself where it is none."""
    word = text.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    if not word or word[0] not in "-0123456789{[":
        return text
    try:
        return read(text)
    except (ValueError, RecursionError):
        return text


def read(text: str) -> Any:
    """Return the value of a JSON text. Raises `ValueError`, and `RecursionError` for too deep nesting."""
    return json.loads(text, strict=False, parse_constant=str)


def as_number(text: str) -> float | int:
    """Return what a number is in JSON: whole ones stay exact. What matches `_NUMBER` is one."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def unescaped(text: str) -> str:
    """Return the text with the escapes of JSON and Python written out, once."""
    plain = _ESCAPE.sub(lambda found: _character(found.group(1)), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(code: str) -> str:
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES.get(code, code)
