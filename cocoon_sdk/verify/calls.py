"""Are these calls what the tokens say? What a parser of calls makes of a text, checked without that parser.

Owns the rules. Models write calls in dozens of forms and engines parse them with code of their own: arguments
are written anew, and values are turned into the types that the function's schema names. So where the text
has them as JSON, parsed arguments are compared as values; in any other form (XML, Python, forms of a model's
own), every name, text and number of them has to stand in the text. Must not know faults, or who is to blame.

What is altered for sure is `FALSE`; what could be a parser's doing is `ODD`.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Final

from cocoon_sdk.verify.texts import squeezed, without_marks

MAX_CALLS: Final = 256
"""Most calls of one choice: as many as clients join."""
_MOST_STARTS: Final = 512
_MOST_VALUES: Final = 20_000
_MOST_PARTS: Final = 4096
_MAX_NAME: Final = 256
_NEAR: Final = 96
"""Characters between a function's name and its arguments in forms that write the name outside of JSON."""
_DEPTH: Final = 32
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]{1,64}\.?[0-9]{0,64}|\.[0-9]{1,64})(?:[eE][-+]?[0-9]{1,4})?")
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_LETTER: Final = re.compile(r"[^\W\d_]")
_BEFORE: Final = frozenset("\"'`>|=:,([{")
_BEHIND: Final = frozenset("\"'`<|,)]}\\")
_WORDS: Final = {"true": True, "false": False, "none": None, "null": None}
_LOOKED_AT: Final = 1000
_LONGER: Final = 8
"""How many times as long as the text arguments may be written: each character as an escape of its own."""


class Doubt(IntEnum):
    """How far calls are from what the tokens say."""

    NONE = 0
    ODD = 1
    FALSE = 2


@dataclass(frozen=True, slots=True)
class Call:
    """One call as it is shown: `arguments` are JSON in a text."""

    name: str
    arguments: str


def shown_calls(message: Mapping[str, Any]) -> tuple[Call, ...] | None:
    """Return the calls that a message shows; None for what is no call of a function."""
    listed = message.get("tool_calls")
    listed = [] if listed is None else listed
    old = message.get("function_call")
    if not isinstance(listed, list) or len(listed) > MAX_CALLS:
        return None
    functions = [each.get("function") if isinstance(each, dict) else None for each in listed]
    found = []
    for function in functions if old is None else [*functions, old]:
        if not isinstance(function, dict):
            return None
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str) or not isinstance(arguments, str):
            return None
        found.append(Call(name, arguments))
    return tuple(found)


def doubt_about(calls: Sequence[Call], said: str, *, named: str | None = None) -> Doubt:
    """Compare calls with the text of the tokens.

    `named` is the function that the request itself names: then the tokens are its arguments only.
    """
    if not calls:
        return Doubt.NONE
    if sum(len(call.arguments) for call in calls) > _LONGER * len(said) + _NEAR * len(calls):
        return Doubt.FALSE
    if max(len(call.name) for call in calls) > _MAX_NAME:
        return Doubt.FALSE
    text = _Text(said, {call.name for call in calls})
    return max(text.doubt(call, is_named=call.name == named) for call in calls)


class _Written:
    """Arguments that the text has as JSON. Each is one call's: it is used up by the first that it fits."""

    def __init__(self, value: Any) -> None:
        self.value, self.is_used = value, False
        self.is_sure = False
        """Whether these are arguments, and not something that stands near the name."""

    @cached_property
    def normal(self) -> Any:
        """Compared with what is shown."""
        return _normal(self.value)


class _Text:
    """What tokens say, and the JSON in it that may be arguments of the functions with these names."""

    def __init__(self, said: str, names: Set[str]) -> None:
        self._said = said
        self._objects, self._broken = _objects(said)
        self._written: dict[int, _Written] = {}
        self._of: dict[str, list[_Written]] = {name: [] for name in names}
        for start, value in self._objects:
            self._look_into(value)
            self._look_before(start, value)
        plain = _unescaped(said)
        views = (squeezed(each) for each in (said, plain, _unescaped(plain), html.unescape(said)))
        self._views = tuple(dict.fromkeys(views))
        self._numbers = {
            _as_number(each.group()) for view in (said, plain) for each in _NUMBER.finditer(view)
        }
        self._counts: dict[str, int] = {}
        self._parts: dict[str, Doubt] = {}

    def doubt(self, call: Call, *, is_named: bool) -> Doubt:
        """Compare one call; `is_named` ones need not have their name in the text."""
        if not is_named and not self._has_name(call.name):
            return Doubt.FALSE
        try:
            arguments = _read(call.arguments) if call.arguments.strip() else {}
        except (ValueError, RecursionError):
            # Cut off, or as the model wrote it: parsers hand on what they cannot read.
            shown = squeezed(call.arguments)
            return Doubt.NONE if any(shown in view for view in self._views) else Doubt.ODD
        try:
            return self._compared(call, arguments, is_named=is_named)
        except RecursionError:
            return Doubt.FALSE  # no function takes what is nested so deeply

    def _compared(self, call: Call, arguments: Any, *, is_named: bool) -> Doubt:
        wanted = _normal(arguments)
        written = [each for each in self._of[call.name] if not each.is_used]
        alone = [self._as_written(value) for _, value in self._objects] if is_named else []
        for each in (*written, *alone):
            if not each.is_used and each.normal == wanted:
                each.is_used = True
                return Doubt.NONE
        is_json = any(each.is_sure for each in written) and not self._has_other_form(call.name)
        if is_json and not self._broken and not _is_inside(written, wanted):
            return Doubt.FALSE
        # What is no JSON may be a call that the engine could read all the same.
        return max(self._parts_doubt(arguments), Doubt.ODD if is_json else Doubt.NONE)

    def _as_written(self, value: Any) -> _Written:
        return self._written.setdefault(id(value), _Written(value))

    def _look_into(self, value: Any) -> None:
        """Find what stands beside a function's name, or under it, in JSON."""
        for each in _values(value):
            if not isinstance(each, dict):
                continue
            for name in self._of.keys() & each.keys():
                if isinstance(each[name], dict):
                    self._keep(name, each[name])
            texts = [part for part in each.values() if isinstance(part, str)]
            for name in self._of.keys() & set(texts):
                beside = [
                    *(part for part in each.values() if not isinstance(part, str)),
                    *map(_loaded, texts),
                ]
                for part in [part for part in beside if isinstance(part, dict | list)] or [{}]:
                    self._keep(name, part)

    def _look_before(self, start: int, value: Any) -> None:
        """Find the names that stand near before an object, outside of JSON."""
        for name in self._of:
            window = self._said[max(0, start - _NEAR - len(name)) : start]
            place = window.rfind(name) if name else -1
            if place >= 0:
                between = without_marks(window[place + len(name) :]).replace("json", "")
                self._keep(name, value, sure=_LETTER.search(between) is None)

    def _keep(self, name: str, value: Any, *, sure: bool = True) -> None:
        written = self._as_written(value)
        written.is_sure = written.is_sure or sure
        if written not in self._of[name][-2:]:
            self._of[name].append(written)

    def _has_name(self, name: str) -> bool:
        """Tell whether a name stands there as often as it was shown, this time included."""
        short = squeezed(name)
        self._counts[short] = self._counts.get(short, 0) + 1
        return bool(short) and any(view.count(short) >= self._counts[short] for view in self._views)

    def _has_other_form(self, name: str) -> bool:
        """Tell whether the text may have calls of a function as XML, Python, or in a model's own form."""
        exact = re.escape(name)
        forms = (
            rf"{exact}\s*\(",
            rf"function={exact}",
            rf"name=[\"']{exact}",
            "<[^<>]{0,32}(?:param|arg_key)",
        )
        return any(re.search(form, self._said) for form in forms)

    def _parts_doubt(self, arguments: Any) -> Doubt:
        """Look for every name, text and number of the arguments by itself."""
        worst = Doubt.NONE
        for each in set(_leaves(arguments)):
            if isinstance(each, str):
                found = self._part_doubt(squeezed(each))
            else:
                found = Doubt.NONE if each in self._numbers else Doubt.FALSE
            if found is Doubt.FALSE:
                return found
            worst = max(worst, found)
        return worst

    def _part_doubt(self, part: str) -> Doubt:
        """Look for one text."""
        if part not in self._parts:
            if len(self._parts) >= _MOST_PARTS:
                return Doubt.ODD  # more than any call has: not worth the time
            places = [view for view in self._views if part in view]
            alone = not part or any(_stands_apart(part, view) for view in places)
            self._parts[part] = Doubt.FALSE if not places else Doubt.NONE if alone else Doubt.ODD
        return self._parts[part]


def _is_inside(written: Sequence[_Written], wanted: Any) -> bool:
    """Tell whether JSON that was found is only a part of the arguments: then they have another form."""
    texts = {repr(each) for each in _values(wanted)}
    return any(repr(each.normal) in texts for each in written if each.value)


def _objects(text: str) -> tuple[list[tuple[int, Any]], bool]:
    """Return the JSON objects of a text with their places, outermost only, and whether some are none."""
    read = json.JSONDecoder(strict=False, parse_constant=str).raw_decode
    found: list[tuple[int, Any]] = []
    place, tried, broken = text.find("{"), 0, False
    while place >= 0:
        if (tried := tried + 1) > _MOST_STARTS:
            return found, True
        try:
            value, end = read(text, place)
        except (ValueError, RecursionError):
            broken, end = True, place + 1
        else:
            found.append((place, value))
        place = text.find("{", end)
    return found, broken


def _values(value: Any) -> Iterator[Any]:
    """Yield a value and all that is in it, up to a bound."""
    waiting, count = [value], 0
    while waiting and count < _MOST_VALUES:
        count += 1
        each = waiting.pop()
        yield each
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each


def _leaves(value: Any) -> Iterator[str | int | float]:
    """Yield names, texts and numbers; whether and nothing are left out, for parsers fill them in."""
    for each in _values(value):
        if isinstance(each, dict):
            yield from each
        elif isinstance(each, str) or (isinstance(each, int | float) and not isinstance(each, bool)):
            yield each


def _normal(value: Any, depth: int = 0) -> Any:
    """Return a value that the same in another type equals: "5" and 5, "True" and true, JSON in a text."""
    if depth > _DEPTH:
        return squeezed(repr(value))
    if isinstance(value, str):
        loaded = _loaded(value)
        return squeezed(value) if isinstance(loaded, str) else _normal(loaded, depth + 1)
    if isinstance(value, dict):
        return {squeezed(str(key)): _normal(each, depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(each, depth + 1) for each in value]
    if isinstance(value, bool) or value is None:
        return f"\0{value}"
    return value


def _loaded(text: str) -> Any:
    """Return what a text is as JSON, or as a word for it; the text itself where it is none."""
    word = text.strip().lower()
    if word in _WORDS:
        return _WORDS[word]
    if not word or word[0] not in "-0123456789{[":
        return text
    try:
        return _read(text)
    except (ValueError, RecursionError):
        return text


def _read(text: str) -> Any:
    return json.loads(text, strict=False, parse_constant=str)


def _as_number(text: str) -> float | int:
    """Return what a number is in JSON: whole ones stay exact. What matches `_NUMBER` is one."""
    try:
        return int(text)
    except ValueError:
        return float(text)


def _unescaped(text: str) -> str:
    """Return the text with the escapes of JSON and Python written out, once."""
    plain = _ESCAPE.sub(lambda found: _character(found.group(1)), text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(code: str) -> str:
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES.get(code, code)


def _stands_apart(part: str, view: str) -> bool:
    """Tell whether a part stands between delimiters somewhere, and is not the middle of something longer."""
    place, looked = view.find(part), 0
    while place >= 0:
        if (looked := looked + 1) > _LOOKED_AT:
            return True
        end = place + len(part)
        starts = place == 0 or view[place - 1] in _BEFORE
        if starts and (end == len(view) or view[end] in _BEHIND | _BEFORE):
            return True
        place = view.find(part, place + 1)
    return False
