"""`JobSearch`: how a job was opened and what was submitted for it, found in one walk that can be cut off.

Owns where the walk stands and when there is nothing more to look for. Must not know keys, contents or who
asks. Whoever fills an account's history only makes the walk longer: it goes on where it stood, as far down as
the job can be old, and others have their turn in between. There may be many searches, so the
result, which may be large, is fetched last.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytoniq_core import Address, Cell

from cocoon_sdk.chain.base import Chain
from cocoon_sdk.errors import ChainError, MalformedError
from cocoon_sdk.history.lookup import (
    OpenedJob,
    is_below,
    opening_in,
    submission_in,
    submitted_by,
)
from cocoon_sdk.history.transactions import DecodedTransaction, decode_transaction
from cocoon_sdk.history.walking import FIRST_PAGE, LARGE_PAGE, MAX_SEARCH, HistoryNotFoundError
from cocoon_sdk.protocol import messages as m


@dataclass(slots=True)
class _Origin:
    """A submission whose data stands in its worker's own history, and how far that was read."""

    transaction: DecodedTransaction
    submission: m.Submit | m.SubmitClaimed
    before: int | None = None
    seen: int = 0
    is_reached: bool = False


class JobSearch:
    """One search, from the newest transaction down; `advance` until it is true, then look at what it found.

    `since` is the earliest unix second at which the job can have been opened; the submission is the one with
    `result_hash`.
    """

    def __init__(self, chain: Chain, escrow: Address, job_id: int, result_hash: bytes, *, since: int) -> None:
        self._chain, self._escrow, self._job_id = chain, escrow, job_id
        self._result_hash, self._since = int.from_bytes(result_hash, "big"), since
        self._before: int | None = None
        self._opened: OpenedJob | None = None
        self._origin: _Origin | None = None
        self._result: Cell | None = None
        self._is_found = False
        self.seen = 0
        """Transactions that were looked at."""

    @property
    def payload(self) -> Cell | None:
        """The payload's data cell: what the client put beside the job."""
        return None if self._opened is None else self._opened.data

    @property
    def result(self) -> Cell | None:
        """The result's data cell; None also when the worker's own transaction cannot be read."""
        return self._result

    async def advance(self, pages: int) -> bool:
        """Look at so many pages more; true when both were found.

        Raises `HistoryNotFoundError` when the walk ended without them, and other `ChainError`s of the
        endpoint: then the next call goes on.
        """
        for _ in range(pages):
            if self._is_found:
                return True
            if self._opened is not None and self._origin is not None:
                await self._look_at_origin(self._origin)
                continue
            page = await self._chain.transactions(
                self._escrow, limit=LARGE_PAGE if self.seen else FIRST_PAGE, before_lt=self._before
            )
            for record in page:
                if record.now < self._since:
                    raise self._missing("the endpoint shows nothing of it in the time that a job lives")
                try:
                    transaction = decode_transaction(record)
                except MalformedError:
                    continue  # not made by one of our contracts' messages
                if self._look_at(transaction):
                    break
            if self._opened is not None:
                continue
            self.seen += len(page)
            if not page or page[-1].prev_lt == 0 or self.seen >= MAX_SEARCH:
                raise self._missing(f"it is not among the newest {self.seen} transactions")
            self._before = page[-1].lt
        return self._is_found

    def _look_at(self, transaction: DecodedTransaction) -> bool:
        """Take what a transaction shows of the job; true when that was its opening."""
        if self._origin is None:
            submission = submission_in(transaction, self._job_id)
            if submission is not None and submission.result_hash == self._result_hash:
                self._origin = _Origin(transaction, submission)
        opened = opening_in(transaction, self._job_id)
        if opened is not None and self._origin is None:
            raise self._missing("no submission reached the escrow")
        if opened is None and is_below(transaction, self._job_id):
            raise self._missing("an older job was opened after it")
        self._opened = opened
        return opened is not None

    async def _look_at_origin(self, origin: _Origin) -> None:
        """Fetch what was submitted from the worker's own history, or go one page down there towards it."""
        try:
            self._result = (await submitted_by(self._chain, origin.transaction, origin.submission)).data
        except MalformedError:
            pass  # what cannot be read was not delivered: its worker must not gain from that
        except HistoryNotFoundError:
            raise
        except ChainError:
            # Endpoints that know transactions by their links only reach so far in one step, and a worker can
            # fill its own history: step by step they get there.
            if origin.is_reached:
                origin.is_reached, origin.before = False, None
                raise
            await self._go_down(origin)
            return
        self._is_found = True

    async def _go_down(self, origin: _Origin) -> None:
        message = origin.transaction.in_message
        assert message is not None
        assert message.src is not None
        page = await self._chain.transactions(
            message.src, limit=LARGE_PAGE, before_lt=origin.before, after_lt=message.created_lt
        )
        origin.seen += len(page)
        origin.is_reached = not page or page[-1].prev_lt <= message.created_lt or origin.seen >= MAX_SEARCH
        if page:
            origin.before = page[-1].lt

    def _missing(self, why: str) -> HistoryNotFoundError:
        return HistoryNotFoundError(
            f"job {self._job_id} of {self._escrow.to_str()}",
            why=why,
            hint="The endpoint may lag or have dropped old history: try again, or use another one",
        )
