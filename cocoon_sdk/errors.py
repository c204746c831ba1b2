"""The exception tree. Every error says what failed, why, and what to do.

Owns the base classes and the errors that more than one room raises. Contract exit codes get their
classes from the compiled ABI (`cocoon_sdk.protocol.exit_codes`), never typed by hand. Secrets must
never be put into `what`, `why` or `hint`.
"""

from __future__ import annotations


class CocoonError(Exception):
    """Base of everything this package raises on purpose.

    `what` names the failed step, `why` the cause, `hint` the next thing to do.
    """

    def __init__(self, what: str, *, why: str = "", hint: str = "") -> None:
        self.what, self.why, self.hint = what, why, hint
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what
        if self.why:
            text += f": {self.why}"
        if self.hint:
            text += f". {self.hint}"
        return text


class ConfigError(CocoonError):
    """A setting is missing or makes no sense."""


class KeyMaterialError(CocoonError):
    """A key, mnemonic or key file cannot be used (the material itself is never shown)."""


class DecryptionError(CocoonError):
    """A sealed box does not open: wrong key, wrong recipient, or altered bytes."""


class MalformedError(CocoonError):
    """Bytes from outside do not have the agreed form, or exceed a bound."""


class HashMismatchError(CocoonError):
    """Content does not hash to the value that was committed to on chain."""


# -- chain -------------------------------------------------------------------------------------------


class ChainError(CocoonError):
    """Something between us and the network failed."""


class ChainUnavailableError(ChainError):
    """The endpoint cannot be reached, or answered with a transport-level failure."""


class ChainTimeoutError(ChainUnavailableError):
    """The endpoint did not answer in time."""


class ChainStaleError(ChainError):
    """The endpoint answers, but its newest block is too old to act on."""


class ExternalRejectedError(ChainError):
    """The contract (or the network) did not accept an external message; it cost nothing."""

    def __init__(self, what: str, *, exit_code: int | None = None, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.exit_code = exit_code


class GetterError(ChainError):
    """A get-method threw."""

    def __init__(self, what: str, *, exit_code: int, why: str = "", hint: str = "") -> None:
        super().__init__(what, why=why, hint=hint)
        self.exit_code = exit_code


class AccountNotFoundError(ChainError):
    """The account does not exist or holds no code yet."""


class ForgedAccountError(CocoonError):
    """An account claims to be one of ours but its address does not derive from genuine code."""


# -- jobs ----------------------------------------------------------------------------------------------


class JobError(CocoonError):
    """A job cannot go on as asked."""


class InsufficientEscrowError(JobError):
    """The escrow's free balance does not cover price, bond and the gas of the whole path."""


class InsufficientStakeError(JobError):
    """The worker's unlocked stake does not cover the collateral."""


class UnknownModelError(JobError):
    """No registry entry or no offer exists for that model."""


class PriceTooHighError(JobError):
    """The asked price is above the maximum that was set."""


class JobExpiredError(JobError):
    """A deadline of the job has passed."""


class JobTimeoutError(JobError):
    """The job did not end in the time the caller was ready to wait; it goes on on chain."""


class OfferRefusedError(JobError):
    """The worker declined the job and said why."""


class NoWorkerError(JobError):
    """No worker fits the request."""


class ResultUnavailableError(JobError):
    """The result's bytes cannot be fetched from where they were announced."""


# -- engines --------------------------------------------------------------------------------------------


class EngineError(CocoonError):
    """The inference engine failed."""


class EngineUnavailableError(EngineError):
    """The engine is not reachable or has ended."""


class EngineInterruptedError(EngineError):
    """The engine died or cut the answer short in the middle of a generation."""
