"""The generated modules of the sample contract, made anew from its committed ABI, and values for them."""

import sys
import types
from dataclasses import fields
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from pytoniq_core import Address, Builder, Cell

from cocoon_sdk.protocol import abi_codecs as c
from cocoon_sdk.protocol.abi_dict import MapCodec
from cocoon_sdk.protocol.abi_runtime import Struct, StructCodec
from cocoon_sdk.types import Nano
from tests.unit.codegen.tvm import SAMPLE

CONTRACTS = Path(__file__).parents[3] / "contracts"
sys.path.insert(0, str(CONTRACTS))

import generate  # noqa: E402

MODULES, SCHEMA = generate.generate(SAMPLE, SAMPLE)


def _load(name: str) -> types.ModuleType:
    module = types.ModuleType(f"cocoon_sample_{name}")
    text = MODULES[f"{name}.py"].replace("cocoon_sdk.protocol.messages", "cocoon_sample_messages")
    sys.modules[module.__name__] = module
    exec(compile(text, f"<sample {name}>", "exec"), module.__dict__)
    return module


messages: Any = _load("messages")
getters: Any = _load("getters")
exit_codes: Any = _load("exit_codes")

addresses = st.builds(Address, st.tuples(st.integers(-128, 127), st.binary(min_size=32, max_size=32)))


@st.composite
def cells(draw: st.DrawFn, depth: int = 2, max_bits: int = 1023, max_refs: int = 2) -> Cell:
    """Ordinary cells of up to three levels."""
    size = draw(st.integers(0, max_bits))
    builder = Builder()
    if size:
        builder.store_uint(draw(st.integers(0, (1 << size) - 1)), size)
    if depth:
        for _ in range(draw(st.integers(0, max_refs))):
            builder.store_ref(draw(cells(depth - 1, 64)))
    return builder.end_cell()


def values(codec: c.Codec[Any]) -> st.SearchStrategy[Any]:
    """Every value that a codec accepts."""
    match codec:
        case c.IntCodec(bits=bits, signed=True):
            return st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
        case c.IntCodec(bits=bits):
            return st.integers(0, (1 << bits) - 1)
        case c.VarIntCodec(length_bits=length, signed=signed, money=money):
            bits = ((1 << length) - 1) * 8
            low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
            return st.integers(low, high).map(Nano) if money else st.integers(low, high)
        case c.BoolCodec():
            return st.booleans()
        case c.AddressCodec(optional=optional):
            return st.none() | addresses if optional else addresses
        case c.CellCodec(rest=rest):
            return cells(1, 100, 1) if rest else cells()
        case c.BytesCodec(size=size):
            return st.binary(min_size=size, max_size=size)
        case c.TextCodec():
            return st.text(st.characters(codec="utf-8"), max_size=200)
        case c.MaybeCodec(inner=inner):
            return st.none() | values(inner)
        case c.RefCodec(inner=inner):
            return values(inner)
        case MapCodec(key=key, value=value):
            return st.dictionaries(values(key), values(value), max_size=6)
        case StructCodec(type=type_):
            return structs(type_)
    raise AssertionError(codec)


def structs(type_: type[Struct]) -> st.SearchStrategy[Any]:
    """Every value of a generated struct."""
    codecs = dict(field for cell in type_.LAYOUT for field in cell)
    assert [field.name for field in fields(type_)] == list(codecs)  # type: ignore[arg-type]
    return st.builds(type_, **{name: values(codec) for name, codec in codecs.items()})
