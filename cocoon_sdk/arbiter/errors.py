"""What an arbiter refuses, and why.

Owns names only.
"""

from __future__ import annotations

from cocoon_sdk.errors import CocoonError


class ArbiterError(CocoonError):
    """An arbiter cannot do what it was asked."""


class EvidenceError(ArbiterError):
    """Evidence does not fit what the chain holds, or came too late."""


class OpinionError(ArbiterError):
    """What another arbiter sent is not signed by it, or contradicts what it signed before."""


class TooManyDisputesError(ArbiterError):
    """This arbiter follows as many disputes as it can."""


class BusyError(ArbiterError):
    """This arbiter does as much at a time as it can."""


class UnfinishedError(ArbiterError):
    """A history is longer than one look at it: the next look goes on."""


class TooOftenError(ArbiterError):
    """One address asks more often than it may."""


class SecondVerdictError(ArbiterError):
    """Refused to vote or sign differently than before in the same dispute."""


class JudgingError(ArbiterError):
    """The content cannot be judged here and now: no endpoint for the model, or it fails."""
