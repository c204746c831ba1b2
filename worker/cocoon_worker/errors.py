"""The worker's named errors, below the SDK's tree.

Owns names only. What an operator has to do stands in each error's hint.
"""

from __future__ import annotations

from cocoon_sdk.errors import CocoonError


class WorkerError(CocoonError):
    """Something in the worker itself, not in the network or the engine."""


class JournalError(WorkerError):
    """The journal cannot be used; nothing is sent without it."""


class JournalLockedError(JournalError):
    """Another worker holds this journal: two would sign two results for one job."""


class JournalFullError(JournalError):
    """The journal cannot grow (disk full, quota, read-only): the step was undone and nothing was sent."""


class JournalMismatchError(JournalError):
    """The journal belongs to another stake, network or version."""


class IllegalTransitionError(WorkerError):
    """A job or an external was about to leave the table of its states: a bug, and nothing was written."""


class StakeNotReadyError(WorkerError):
    """The stake's account is missing, pending, or holds another operator key than this worker's."""


class LowGasError(WorkerError):
    """The stake's spare gas does not pay for what has to be sent; claims have a reserve of their own."""
