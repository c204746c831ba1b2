"""Are these calls what the tokens say? What a parser of calls makes of a text, checked without that parser.

Owns the rules. Models write calls in dozens of forms and engines parse them with code of their own: arguments
are written anew, and values are turned into the types that the function's schema names. So where the text
has them as JSON, parsed arguments are compared as values; in any other form (XML, Python, forms of a model's
own), every name, text and number of them has to stand in the text. Must not know faults, or who is to blame.

What is altered for sure is `FALSE`; what could be a parser's doing is `ODD`. Comparing takes work, of which
an answer gets a fixed amount: where that does not suffice, its calls stay `OPEN`, which accuses nobody.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Final

from cocoon_sdk.verify.call_values import as_number, leaves, loaded, normal, objects, read, unescaped, values
from cocoon_sdk.verify.texts import squeezed, without_marks
from cocoon_sdk.verify.work import TooMuchError, Work

MAX_CALLS: Final = 256
"""Most calls of one choice: as many as clients join."""
_MAX_NAME: Final = 256
_NEAR: Final = 96
"""Characters between a function's name and its arguments in forms that write the name outside of JSON."""
_NUMBER: Final = re.compile(r"[-+]?(?:[0-9]{1,64}\.?[0-9]{0,64}|\.[0-9]{1,64})(?:[eE][-+]?[0-9]{1,4})?")
_LETTER: Final = re.compile(r"[^\W\d_]")
_BEFORE: Final = frozenset("\"'`>|=:,([{")
_BEHIND: Final = frozenset("\"'`<|,)]}\\")
_LOOKED_AT: Final = 1000
_LONGER: Final = 8
"""How many times as long as the text arguments may be written: each character as an escape of its own."""


class Doubt(IntEnum):
    """How far calls are from what the tokens say."""

    NONE = 0
    OPEN = 1
    """Nobody can tell: comparing them takes too much work."""
    ODD = 2
    FALSE = 3


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


def doubt_about(
    calls: Sequence[Call], said: str, *, named: str | None = None, work: Work | None = None
) -> Doubt:
    """Compare calls with the text of the tokens.

    `named` is the function that the request itself names: then the tokens are its arguments only. `work` is
    what may be done; what is certain before it is spent counts.
    """
    if not calls:
        return Doubt.NONE
    if sum(len(call.arguments) for call in calls) > _LONGER * len(said) + _NEAR * len(calls):
        return Doubt.FALSE
    if max(len(call.name) for call in calls) > _MAX_NAME:
        return Doubt.FALSE
    worst = Doubt.NONE
    try:
        text = _Text(said, {call.name for call in calls}, Work() if work is None else work)
        for call in calls:
            worst = max(worst, text.doubt(call, is_named=call.name == named))
            if worst is Doubt.FALSE:
                break
    except TooMuchError:
        return max(worst, Doubt.OPEN)
    return worst


class _Written:
    """Arguments that the text has as JSON. Each is one call's: it is used up by the first that it fits."""

    def __init__(self, value: Any) -> None:
        self.value, self.is_used = value, False
        self.is_sure = False
        """Whether these are arguments, and not something that stands near the name."""

    @cached_property
    def normal(self) -> Any:
        """Compared with what is shown."""
        return normal(self.value)


class _Text:
    """What tokens say, and the JSON in it that may be arguments of the functions with these names."""

    def __init__(self, said: str, names: Set[str], work: Work) -> None:
        self._said, self._work = said, work
        self._objects, self._broken = objects(said, work)
        self._written: dict[int, _Written] = {}
        self._of: dict[str, list[_Written]] = {name: [] for name in names}
        for start, value in self._objects:
            self._look_into(value)
            self._look_before(start, value)
        plain = unescaped(said)
        views = (squeezed(each) for each in (said, plain, unescaped(plain), html.unescape(said)))
        self._views = tuple(dict.fromkeys(views))
        work.spend(sum(map(len, self._views)))
        self._numbers = {as_number(each.group()) for view in (said, plain) for each in _NUMBER.finditer(view)}
        self._unused: dict[str, int] = {}
        self._forms: dict[str, bool] = {}
        self._parts: dict[str, Doubt] = {}
        self._places = [0] * len(self._views)

    def doubt(self, call: Call, *, is_named: bool) -> Doubt:
        """Compare one call; `is_named` ones need not have their name in the text."""
        if not is_named and not self._has_name(call.name):
            return Doubt.FALSE
        try:
            arguments = read(call.arguments) if call.arguments.strip() else {}
        except (ValueError, RecursionError):
            # Cut off, or as the model wrote it: parsers hand on what they cannot read.
            shown = squeezed(call.arguments)
            self._work.spend(sum(map(len, self._views)))
            return Doubt.NONE if any(shown in view for view in self._views) else Doubt.ODD
        try:
            return self._compared(call, arguments, is_named=is_named)
        except RecursionError:
            return Doubt.FALSE  # no function takes what is nested so deeply

    def _compared(self, call: Call, arguments: Any, *, is_named: bool) -> Doubt:
        wanted = normal(arguments)
        written = [each for each in self._of[call.name] if not each.is_used]
        alone = [self._as_written(value) for _, value in self._objects] if is_named else []
        for each in (*written, *alone):
            if each.is_used:
                continue
            self._work.spend(len(call.arguments))
            if each.normal == wanted:
                each.is_used = True
                return Doubt.NONE
        is_json = any(each.is_sure for each in written) and not self._has_other_form(call.name)
        if is_json and not self._broken and not self._is_inside(written, wanted):
            return Doubt.FALSE
        # What is no JSON may be a call that the engine could read all the same.
        return max(self._parts_doubt(arguments), Doubt.ODD if is_json else Doubt.NONE)

    def _as_written(self, value: Any) -> _Written:
        return self._written.setdefault(id(value), _Written(value))

    def _look_into(self, value: Any) -> None:
        """Find what stands beside a function's name, or under it, in JSON."""
        for each in values(value):
            if not isinstance(each, dict):
                continue
            for name in self._of.keys() & each.keys():
                if isinstance(each[name], dict):
                    self._keep(name, each[name])
            texts = [part for part in each.values() if isinstance(part, str)]
            for name in self._of.keys() & set(texts):
                beside = [
                    *(part for part in each.values() if not isinstance(part, str)),
                    *map(loaded, texts),
                ]
                for part in [part for part in beside if isinstance(part, dict | list)] or [{}]:
                    self._keep(name, part)

    def _look_before(self, start: int, value: Any) -> None:
        """Find the names that stand near before an object, outside of JSON."""
        for name in self._of:
            self._work.spend(_NEAR + len(name))
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
        if short not in self._unused:
            self._work.spend(sum(map(len, self._views)))
            self._unused[short] = max(view.count(short) for view in self._views) if short else 0
        self._unused[short] -= 1
        return self._unused[short] >= 0

    def _has_other_form(self, name: str) -> bool:
        """Tell whether the text may have calls of a function as XML, Python, or in a model's own form."""
        if name not in self._forms:
            exact = re.escape(name)
            forms = (
                rf"{exact}\s*\(",
                rf"function={exact}",
                rf"name=[\"']{exact}",
                "<[^<>]{0,32}(?:param|arg_key)",
            )
            self._work.spend(len(forms) * len(self._said))
            self._forms[name] = any(re.search(form, self._said) for form in forms)
        return self._forms[name]

    def _is_inside(self, written: Sequence[_Written], wanted: Any) -> bool:
        """Tell whether JSON that was found is only a part of the arguments: then they have another form."""
        texts = set()
        for each in values(wanted):
            text = repr(each)
            self._work.spend(len(text))
            texts.add(text)
        for each in written:
            if each.value:
                text = repr(each.normal)
                self._work.spend(len(text))
                if text in texts:
                    return True
        return False

    def _parts_doubt(self, arguments: Any) -> Doubt:
        """Look for every name, text and number of the arguments by itself."""
        parts = dict.fromkeys(leaves(arguments))
        if not all(each in self._numbers for each in parts if not isinstance(each, str)):
            return Doubt.FALSE
        worst = Doubt.NONE
        for each in parts:
            if isinstance(each, str):
                worst = max(worst, self._part_doubt(squeezed(each)))
            if worst is Doubt.FALSE:
                break
        return worst

    def _part_doubt(self, part: str) -> Doubt:
        """Look for one text."""
        if part not in self._parts:
            least = Doubt.FALSE if part else Doubt.NONE
            for index in range(len(self._views)):
                if least is Doubt.NONE:
                    break
                least = min(least, self._part_in(part, index))
            self._parts[part] = least
        return self._parts[part]

    def _part_in(self, part: str, index: int) -> Doubt:
        """Look for one text in one view: `ODD` where it only stands within something longer.

        It goes on where the part before was found: honest ones come in order, and cost one pass together.
        """
        view, start, looked, found = self._views[index], self._places[index], 0, Doubt.FALSE
        for first, stop in ((start, len(view)), (0, start + len(part))):
            place = first
            while (at := view.find(part, place, stop)) >= 0:
                found, end = Doubt.ODD, at + len(part)
                self._work.spend(end - place)
                starts = at == 0 or view[at - 1] in _BEFORE
                ends = end == len(view) or view[end] in _BEHIND | _BEFORE
                if (starts and ends) or (looked := looked + 1) >= _LOOKED_AT:
                    self._places[index] = end
                    return Doubt.NONE
                place = at + 1
            self._work.spend(max(0, min(stop, len(view)) - place))
        return found
