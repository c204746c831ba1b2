"""What a worker's owner sends from the cold wallet: create, fund and unwind the stake.

Owns the order of messages and the checks before them. Must not hold the owner's key: every function returns
messages for an `OwnerWallet`. Amounts in nanoTON.
"""

from __future__ import annotations

from typing import Final

from cocoon_sdk.contracts.sender import OwnerMessage
from cocoon_sdk.contracts.worker_stake import StakeLock, WorkerStake
from cocoon_sdk.crypto import VerifyKey
from cocoon_sdk.errors import ConfigError, InsufficientStakeError
from cocoon_sdk.protocol import messages as m
from cocoon_sdk.types import Nano

ACTIVATION: Final = Nano.ton("0.3")
"""Value of the first message: rent, and asking the registry; the rest stays as gas."""


def create_stake(
    stake: WorkerStake,
    operator: VerifyKey,
    *,
    amount: Nano,
    gas: Nano,
    max_locked: Nano | None = None,
    daily_lock: Nano | None = None,
) -> list[OwnerMessage]:
    """Return the messages that create, configure and fund a stake.

    `max_locked` and `daily_lock` bound what a thief with the operator key can lose: `amount` unless given.
    Raises `ConfigError` for amounts that make no sense.
    """
    if amount <= 0 or gas <= 0:
        raise ConfigError("cannot create a stake", why="stake and gas must be positive")
    locked = amount if max_locked is None else max_locked
    daily = locked if daily_lock is None else daily_lock
    first = stake.configure(operator, max_locked=locked, daily_lock=daily, value=ACTIVATION + gas)
    return [first, stake.add_stake(amount)]


def change_operator(stake: WorkerStake, operator: VerifyKey) -> list[OwnerMessage]:
    """Return the message that replaces the operator key, for example after it was stolen."""
    return [stake.set_key(operator)]


def top_up(stake: WorkerStake, *, amount: Nano | None = None, gas: Nano | None = None) -> list[OwnerMessage]:
    """Return the messages that add stake, gas, or both. Raises `ConfigError` when there is neither."""
    messages = []
    if amount is not None:
        messages.append(stake.add_stake(amount))
    if gas is not None:
        messages.append(stake.add_gas(gas))
    if not messages:
        raise ConfigError("nothing to add", hint="Name an amount of stake or of gas")
    return messages


def start_unbonding(stake: WorkerStake, view: m.StakeView, amount: Nano | None = None) -> list[OwnerMessage]:
    """Return the message that starts to take stake out; all that is not locked unless `amount` is given.

    Raises `InsufficientStakeError` when less is free.
    """
    free = Nano(view.stake - view.locked)
    wanted = free if amount is None else amount
    if wanted <= 0 or wanted > free:
        raise InsufficientStakeError(
            f"cannot unbond {wanted}",
            why=f"{free} of the stake is not locked",
            hint="Wait until running jobs end, or take out less",
        )
    if view.unbonding:
        raise InsufficientStakeError(
            "cannot start another unbonding",
            why=f"{Nano(view.unbonding)} is on its way out until {view.unbonds_at}",
            hint="Complete it first",
        )
    return [stake.unbond(wanted)]


def collect(stake: WorkerStake, view: m.StakeView, *, now: int, keep_gas: Nano) -> list[OwnerMessage]:
    """Return the messages that bring everything to the owner that can leave now (`now` in unix seconds).

    Earnings, stake whose unbonding is over, and gas above `keep_gas`. Empty when there is nothing.
    """
    messages = []
    if view.earned > 0:
        messages.append(stake.withdraw_earned(Nano(view.earned)))
    if view.unbonding > 0 and now >= view.unbonds_at:
        messages.append(stake.complete_unbond())
    if view.gas > keep_gas:
        messages.append(stake.withdraw_gas(Nano(view.gas - keep_gas)))
    return messages


def free_expired_locks(stake: WorkerStake, locks: dict[int, StakeLock], now: int) -> list[OwnerMessage]:
    """Return the messages that free locks which outlived every job (`now` in unix seconds)."""
    return [stake.release_expired(number) for number, lock in sorted(locks.items()) if now > lock.end]
