"""What an object keeps alive."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import FunctionType, ModuleType


def kept_by(root: object, *, but: frozenset[str] = frozenset()) -> Iterator[object]:
    """Yield everything that an object refers to, and what that refers to; not through the attributes `but`.

    Types, modules and functions are not gone through: all there is can be reached from them.
    """
    seen: set[int] = set()
    rest = [value for name, value in vars(root).items() if name not in but]
    while rest:
        each = rest.pop()
        if id(each) in seen or type(each) in (type, ModuleType, FunctionType):
            continue
        seen.add(id(each))
        yield each
        rest += gc.get_referents(each)
