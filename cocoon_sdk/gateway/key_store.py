"""Keys and what they may still spend, in the database that all gateways of an escrow share.

Owns the tables and their statements. Must not know requests. A key's counters, in total and for each day:
`taken` is what gateways have set aside of the budget or used up, `spent` what was really used up. A gateway
takes a chunk before it spends it, so that `taken` never passes a budget, whatever is killed when.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cocoon_sdk.errors import ConfigError
from cocoon_sdk.gateway.errors import BudgetReachedError
from cocoon_sdk.gateway.keys import MAX_KEYS, ApiKey, KeyLimits, UnknownKeyError
from cocoon_sdk.storage import Database, Row, Schema, Statements, StorageConflictError
from cocoon_sdk.types import Nano, format_ton

DAY_S: Final = 86_400

SCHEMA: Final = Schema(
    "gateway keys",
    (
        (
            """CREATE TABLE gateway_keys (
                id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, digest BYTEA NOT NULL,
                created BIGINT NOT NULL, revoked BIGINT,
                budget_total BIGINT, budget_day BIGINT,
                requests_per_minute BIGINT, tokens_per_minute BIGINT, models TEXT NOT NULL,
                taken BIGINT NOT NULL, spent BIGINT NOT NULL)""",
            """CREATE TABLE gateway_key_days (
                key_id TEXT NOT NULL, day BIGINT NOT NULL,
                taken BIGINT NOT NULL, spent BIGINT NOT NULL, PRIMARY KEY (key_id, day))""",
        ),
    ),
)
_COLUMNS: Final = (
    "id, name, digest, created, revoked, budget_total, budget_day, requests_per_minute, "
    "tokens_per_minute, models"
)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """A key with what was used up and what gateways hold of its budget, in nanoTON."""

    key: ApiKey
    spent: Nano
    held: Nano
    spent_today: Nano
    held_today: Nano


class KeyStore:
    """Reads and writes keys; every method is one transaction, done when it returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- the operator's side -------------------------------------------------------------------------------

    async def add(self, key: ApiKey) -> None:
        """Keep a new key. Raises `ConfigError` when its name is taken, or there are too many keys."""
        limits = key.limits
        rows = await self._database.fetch("SELECT COUNT(*) FROM gateway_keys")
        if rows[0][0] >= MAX_KEYS:
            raise ConfigError("cannot add a key", why=f"there are {MAX_KEYS} already, revoked ones included")
        try:
            await self._database.execute(
                f"INSERT INTO gateway_keys ({_COLUMNS}, taken, spent) "  # noqa: S608 - a constant
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
                key.id,
                key.name,
                key.digest,
                key.created,
                key.revoked,
                _plain(limits.budget_total),
                _plain(limits.budget_day),
                limits.requests_per_minute,
                limits.tokens_per_minute,
                json.dumps(sorted(limits.models)),
            )
        except StorageConflictError:
            raise ConfigError(
                f"cannot add the key {key.name!r}", why="the name is taken", hint="Choose another"
            ) from None

    async def keys(self) -> Mapping[str, ApiKey]:
        """Return all keys by id, revoked ones too."""
        rows = await self._database.fetch(f"SELECT {_COLUMNS} FROM gateway_keys")  # noqa: S608
        return {row[0]: _key(row) for row in rows}

    async def list(self, day: int) -> list[KeyUse]:
        """Return all keys with their use in total and on that day (unix time / 86400), oldest first."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS}, k.taken, k.spent, d.taken, d.spent "  # noqa: S608
            "FROM gateway_keys k LEFT JOIN gateway_key_days d ON d.key_id = k.id AND d.day = ? "
            "ORDER BY created, id",
            day,
        )
        return [_use(row) for row in rows]

    async def find(self, name: str) -> ApiKey:
        """Return the key of that id or name. Raises `UnknownKeyError`."""
        rows = await self._database.fetch(
            f"SELECT {_COLUMNS} FROM gateway_keys WHERE id = ? OR name = ?",  # noqa: S608
            name,
            name,
        )
        if not rows:
            raise UnknownKeyError(
                f"no such API key: {name[:64]}", hint="See their names with `cocoon gateway keys list`"
            )
        return _key(rows[0])

    async def revoke(self, key_id: str, now: int) -> bool:
        """Make a key invalid for good; False when it was already."""
        changed = await self._database.execute(
            "UPDATE gateway_keys SET revoked = ? WHERE id = ? AND revoked IS NULL", now, key_id
        )
        return changed == 1

    async def set_limits(self, key_id: str, limits: KeyLimits) -> None:
        """Replace what a key allows. A budget below what is used up stops the key."""
        await self._database.execute(
            "UPDATE gateway_keys SET budget_total = ?, budget_day = ?, requests_per_minute = ?, "
            "tokens_per_minute = ?, models = ? WHERE id = ?",
            _plain(limits.budget_total),
            _plain(limits.budget_day),
            limits.requests_per_minute,
            limits.tokens_per_minute,
            json.dumps(sorted(limits.models)),
            key_id,
        )

    # -- a running gateway's side --------------------------------------------------------------------------

    async def take(self, key_id: str, day: int, *, at_least: int, chunk: int) -> Nano:
        """Set aside a part of a key's budget for this gateway: `at_least`, up to `chunk` if it is there.

        Of a budget that gets small only half is taken beyond `at_least`, so that other gateways get some too.
        Raises `BudgetReachedError` when not even `at_least` is left.
        """
        async with self._database.transaction() as inside:
            # The update comes first: it keeps other gateways out until this is decided.
            rows = await inside.fetch(
                "UPDATE gateway_keys SET taken = taken WHERE id = ? AND revoked IS NULL "
                "RETURNING name, budget_total, budget_day, taken, spent",
                key_id,
            )
            if not rows:
                raise BudgetReachedError("the key cannot be charged", why="it was revoked")
            name, total, daily, taken, spent = rows[0]
            today = await inside.fetch(
                "SELECT taken, spent FROM gateway_key_days WHERE key_id = ? AND day = ?", key_id, day
            )
            taken_today, spent_today = today[0] if today else (0, 0)
            lefts = [
                budget - used for budget, used in ((total, taken), (daily, taken_today)) if budget is not None
            ]
            left = min(lefts, default=at_least)  # the last budget was just taken away: nothing is in the way
            if at_least > left:
                raise _reached(name, at_least, (total, taken, spent), (daily, taken_today, spent_today))
            grant = max(at_least, min(chunk, -(-left // 2)))
            await self._move(inside, key_id, day, taken=grant, spent=0)
        return Nano(grant)

    async def settle(self, key_id: str, day: int, *, spent: int, returned: int) -> None:
        """Note what was used up of what was taken on that day, and give back `returned` of it."""
        if spent or returned:
            async with self._database.transaction() as inside:
                await self._move(inside, key_id, day, taken=-returned, spent=spent)

    async def charge(self, key_id: str, day: int, spent: int) -> None:
        """Note use beyond what was taken: of keys without a budget, or what a request cost too much."""
        if spent:
            async with self._database.transaction() as inside:
                await self._move(inside, key_id, day, taken=spent, spent=spent)

    async def _move(self, inside: Statements, key_id: str, day: int, *, taken: int, spent: int) -> None:
        await inside.execute(
            "UPDATE gateway_keys SET taken = taken + ?, spent = spent + ? WHERE id = ?", taken, spent, key_id
        )
        await inside.execute(
            "INSERT INTO gateway_key_days (key_id, day, taken, spent) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (key_id, day) DO UPDATE SET taken = gateway_key_days.taken + excluded.taken, "
            "spent = gateway_key_days.spent + excluded.spent",
            key_id,
            day,
            taken,
            spent,
        )


def _plain(amount: Nano | None) -> int | None:
    return None if amount is None else int(amount)


def _nano(amount: int | None) -> Nano | None:
    return None if amount is None else Nano(amount)


def _key(row: Row) -> ApiKey:
    limits = KeyLimits(
        budget_total=_nano(row[5]),
        budget_day=_nano(row[6]),
        requests_per_minute=row[7],
        tokens_per_minute=row[8],
        models=frozenset(json.loads(row[9])),
    )
    return ApiKey(row[0], row[1], bytes(row[2]), limits, row[3], row[4])


def _use(row: Row) -> KeyUse:
    taken, spent, taken_today, spent_today = (int(number or 0) for number in row[10:14])
    return KeyUse(
        _key(row), Nano(spent), Nano(taken - spent), Nano(spent_today), Nano(taken_today - spent_today)
    )


_Count = tuple[int | None, int, int]
"""A budget (None: none), what was taken of it, and what was spent."""


def _reached(name: str, wanted: int, total: _Count, today: _Count) -> BudgetReachedError:
    """Say which budget is in the way and what can be done."""
    parts, renews = [], False
    for word, (budget, taken, spent) in (("in all", total), ("today", today)):
        if budget is not None and wanted > budget - taken:
            part = f"{format_ton(spent)} of {format_ton(budget)} TON {word} are spent"
            if taken > spent:
                part += f" and {format_ton(taken - spent)} are set aside for requests"
            parts.append(part)
            renews = word == "today"
    hint = "Ask for fewer tokens, or have the budget raised (`cocoon gateway keys set-budget`)"
    if renews:
        hint += "; the daily budget begins anew at 00:00 UTC"
    why = f"{', '.join(parts)}; this request may cost up to {format_ton(wanted)} TON"
    return BudgetReachedError(
        f"the budget of the API key {name!r} does not cover the request", why=why, hint=hint
    )
