"""`ContractError`: a contract's exit code as an exception.

Owns the base class only; one subclass per named code is generated into `exit_codes.py`.
"""

from __future__ import annotations

from typing import ClassVar

from cocoon_sdk.errors import CocoonError


class ContractError(CocoonError):
    """A contract refused: `exit_code` is what it threw; subclasses exist for every named code.

    `what` names the step that failed; cause and hint come from the code unless given.
    """

    CODE: ClassVar[int | None] = None
    NAME: ClassVar[str] = ""
    WHY: ClassVar[str] = ""
    HINT: ClassVar[str] = ""

    def __init__(
        self,
        what: str = "the contract refused the message",
        *,
        exit_code: int | None = None,
        why: str = "",
        hint: str = "",
    ) -> None:
        code = self.CODE if exit_code is None else exit_code
        if code is None:
            raise TypeError("a ContractError without a named class needs exit_code")
        self.exit_code: int = code
        cause = (
            f"{self.WHY} (exit code {code} {self.NAME})"
            if self.NAME
            else f"exit code {code}, which has no name"
        )
        super().__init__(what, why=why or cause, hint=hint or self.HINT)
