"""The binding to the TVM: executes one message on one account, or one get-method.

Owns everything that is particular to the engine (tonpy's C++ emulator): seeds, libraries, the c7 tuple of
get-methods, reading why an external was rejected. Knows nothing of queues, time or who calls.

The engine implements global version 11, although the packaged configuration says 12: what version 12 added
(BTOS, HASHBU, LDSTDADDR and their kin) ends with exit code 6, and the field `ihr_fee` of messages, which
version 12 reads as flags for the format of bounces, is still a fee. In get-methods the INMSG_* opcodes of
version 11 end with exit code 5, since there is no incoming message to describe.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pytoniq_core import Cell, begin_cell

from cocoon_sdk.chain.base import StackValue
from cocoon_sdk.errors import ExternalRejectedError, GetterError
from cocoon_sdk.sandbox.cells import (
    NativeCell,
    empty_dict,
    key_address,
    native_dict,
    native_slice,
    to_native,
)
from cocoon_sdk.sandbox.config import NetworkConfig
from cocoon_sdk.sandbox.engine import (
    PyEmulator,
    PyStackEntry,
    PyTVM,
    load_as_cell_slice,
    make_tuple,
    method_name_to_id,
)
from cocoon_sdk.sandbox.errors import EmulationError
from cocoon_sdk.sandbox.stack import pop_all, push_all

GETTER_GAS_LIMIT = 1_000_000
"""Gas a get-method may use unless told otherwise; liteservers set limits of their own."""
_LOG_TAIL_LINES = 12
_OUT_OF_GAS = -14
_EXIT_LINE = re.compile(r"terminating vm with exit code (-?\d+)")
_C7_MAGIC = 0x076EF1EA
_VM_VERSION = 1
_WHY_IN_ENGINE_ERROR = re.compile(r"cannot run message on account: (.*?)\]?\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class GetterContext:
    """What a get-method sees: unix time, logical time, and its account's key, balance, code, data."""

    now: int
    lt: int
    key: int
    balance: int
    code: NativeCell
    data: NativeCell | None


@dataclass(frozen=True, slots=True)
class GetterOutcome:
    """How a get-method ended: exit code (0 and 1 are success), gas units, and the engine's stack it left."""

    exit_code: int
    gas_used: int
    stack: Any


class Tvm:
    """One engine with one network configuration. Not shared between threads."""

    def __init__(self, config: NetworkConfig) -> None:
        self.config = config
        self._emulator = PyEmulator(config.native)
        self._libraries: NativeCell | None = None
        self._storage_prices = _StoragePrices(config)

    # -- transactions ---------------------------------------------------------------------------------

    def set_seed(self, seed: bytes) -> None:
        """Set the 32 bytes of block randomness that following transactions derive theirs from."""
        self._emulator.set_rand_seed(seed.hex().upper())

    def set_libraries(self, libraries: Iterable[Cell]) -> None:
        """Replace the public libraries."""
        root = empty_dict(256)
        for library in libraries:
            entry = begin_cell().store_ref(library).end_cell()
            root.set_str(
                str(int.from_bytes(library.hash, "big")), native_slice(to_native(entry)), "set", 256, False
            )
        self._libraries = None if root.is_empty() else root.get_pycell()
        self._emulator.set_libs(root.get_pycell())

    @contextmanager
    def unsigned(self) -> Iterator[None]:
        """Let every signature check pass inside: for estimates of what a message would cost."""
        self._emulator.set_ignore_chksig(True)
        try:
            yield
        finally:
            self._emulator.set_ignore_chksig(False)

    def execute(
        self, account: NativeCell, message: NativeCell, now: int, lt: int
    ) -> tuple[NativeCell, NativeCell]:
        """Execute a message; return the new ShardAccount and the transaction.

        Raises `ExternalRejectedError` when an external is not accepted and `EmulationError` when the
        engine cannot execute it at all.
        """
        emulator = self._emulator
        try:
            accepted = emulator.emulate_transaction(account, message, str(now), str(lt), _VM_VERSION, False)
        except RuntimeError as error:
            raise _engine_error(str(error)) from None
        if not accepted:
            raise _rejection(emulator.vm_log)
        return emulator.account_cell, emulator.transaction_cell

    # -- get-methods ------------------------------------------------------------------------------------

    def run_getter(
        self, context: GetterContext, method: str | int, stack: Sequence[StackValue], gas_limit: int
    ) -> list[StackValue]:
        """Run a get-method; return its stack, deepest value first. Raises `GetterError` and `StackError`."""
        outcome = self.call_getter(context, method, push_all(stack), gas_limit)
        if outcome.exit_code not in (0, 1):
            raise GetterError(
                f"get-method {method!r} of {key_address(context.key).to_str()} failed",
                exit_code=outcome.exit_code,
                why=_getter_reason(outcome.exit_code, gas_limit),
            )
        return pop_all(outcome.stack)

    def call_getter(
        self, context: GetterContext, method: str | int, stack: Any, gas_limit: int
    ) -> GetterOutcome:
        """Run a get-method on an engine's stack (which is used up), whatever its exit code."""
        vm = PyTVM(
            0, context.code, context.data if context.data is not None else _EMPTY, False, True, False, False
        )
        vm.set_gasLimit(str(gas_limit), str(gas_limit))
        if self._libraries is not None:
            vm.set_libs(self._libraries)
        vm.set_c7(self._c7(context))
        stack.push(_integer(method if isinstance(method, int) else method_name_to_id(method)))
        vm.set_stack(stack)
        result = vm.run_vm()
        # The engine reports exit codes inverted, as the VM's run loop returns them.
        return GetterOutcome(~int(vm.exit_code), int(vm.gas_used), result)

    def _c7(self, context: GetterContext) -> Any:
        null, zero = PyStackEntry(), _integer(0)
        address = key_address(context.key)
        myself = _slice_entry(to_native(begin_cell().store_address(address).end_cell()))
        seed = hashlib.sha256(b"getter" + context.lt.to_bytes(8, "big") + address.hash_part).digest()
        return make_tuple(
            [
                _integer(_C7_MAGIC),
                zero,  # actions
                zero,  # messages sent
                _integer(context.now),
                _integer(context.lt),  # of the block
                _integer(context.lt),  # of the transaction
                _integer(int.from_bytes(seed, "big")),
                make_tuple([_integer(context.balance), null]),
                myself,
                PyStackEntry(cell=self.config.native),
                PyStackEntry(cell=context.code),
                make_tuple([zero, null]),  # incoming value
                zero,  # storage fees
                null,  # previous blocks
                self._storage_prices.unpacked_config(context.now),
                zero,  # due payment
                null,  # precompiled gas
                # No element 17 (the incoming message's parameters): when there is one, the engine overwrites
                # 15 and 17 with a configuration it unpacked itself, in the wrong places.
            ]
        )


class _StoragePrices:
    """Builds the unpacked configuration that GETGASFEE and its kin read from c7."""

    _PARAMS = (19, 20, 21, 24, 25, 43)

    def __init__(self, config: NetworkConfig) -> None:
        self._params = [_optional_slice(config.native_param(index)) for index in self._PARAMS]
        self._prices = config.native_param(18)

    def unpacked_config(self, now: int) -> Any:
        return make_tuple([self._current(now), *self._params])

    def _current(self, now: int) -> Any:
        """Return the prices of the latest period that has begun."""
        if self._prices is None:
            return PyStackEntry()
        try:
            _, prices = native_dict(self._prices, 32).lookup_nearest_key(
                str(now), False, True, False, 32, False
            )
        except RuntimeError:
            return PyStackEntry()
        return PyStackEntry(cell_slice=prices)


_EMPTY: NativeCell = to_native(begin_cell().end_cell())


def _integer(value: int) -> Any:
    return PyStackEntry(big_int=str(value))


def _slice_entry(native: NativeCell) -> Any:
    return PyStackEntry(cell_slice=load_as_cell_slice(native, True))


def _optional_slice(native: NativeCell | None) -> Any:
    return PyStackEntry() if native is None else _slice_entry(native)


def _getter_reason(exit_code: int, gas_limit: int) -> str:
    if exit_code == _OUT_OF_GAS:
        return f"it used more than {gas_limit} gas (exit code {exit_code})"
    if exit_code == 11:
        return "exit code 11: mostly the code has no such method"
    return f"exit code {exit_code}"


def _engine_error(text: str) -> ExternalRejectedError | EmulationError:
    found = _WHY_IN_ENGINE_ERROR.search(text)
    why = found.group(1) if found else text
    if "inbound external message rejected" in why:
        return ExternalRejectedError(
            "an external message was not accepted",
            why=why,
            hint="the account has no code and no StateInit came along, or it cannot pay for the import",
        )
    return EmulationError("the emulator cannot execute a message", why=why)


def _rejection(log: str) -> ExternalRejectedError:
    tail = "\n".join(log.strip().splitlines()[-_LOG_TAIL_LINES:])
    codes = _EXIT_LINE.findall(log)
    if codes:
        exit_code, reason = int(codes[-1]), f"the contract threw exit code {codes[-1]}"
    elif "out-of-gas" in log:
        exit_code, reason = _OUT_OF_GAS, "the contract used up its gas credit before accepting"
    else:
        exit_code, reason = 0, "the contract ended without accepting"
    return ExternalRejectedError(
        "an external message was not accepted",
        exit_code=exit_code,
        why=f"{reason}; last steps of the VM:\n{tail}",
    )
