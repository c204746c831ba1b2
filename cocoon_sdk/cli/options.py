"""Options and arguments that several commands share, with their words.

Owns names and help texts, so that the same thing is called the same everywhere.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer

Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
Yes: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before money moves.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Show what would move, and stop.")]
JobName: TypeAlias = Annotated[str, typer.Argument(metavar="JOB", help="ESCROW/ID, or an id of your escrow.")]
Index: TypeAlias = Annotated[
    int | None, typer.Option("--index", min=0, help="Which of the owner's accounts (0 is the first).")
]
Previous: TypeAlias = Annotated[
    bool,
    typer.Option("--previous-code", help="Your account under the contract code before, to empty it."),
]
Amount: TypeAlias = Annotated[str, typer.Argument(metavar="TON", help="An amount of TON, such as 1.5.")]
