"""What a command shows: results on standard output, everything else on standard error.

Owns the two forms (people, machines) and progress. Must not know what is shown. With `--json` standard
output carries exactly one JSON document, also for an error.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.status import Status

    from cocoon_sdk.errors import CocoonError


_PLAIN_WIDTH: Final = 140
_SECONDS: Final = re.compile(r" \(\d+ s\)\Z")


class Output:
    """Where one command writes. rich is loaded only when a person is there to read."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._stdout: Console | None = None
        self._stderr: Console | None = None
        self._status: Status | None = None

    @property
    def stdout(self) -> Console:
        """The console for results."""
        if self._stdout is None:
            self._stdout = _console(stderr=False)
        return self._stdout

    @property
    def stderr(self) -> Console:
        """The console for progress and questions."""
        if self._stderr is None:
            self._stderr = _console(stderr=True)
        return self._stderr

    @property
    def is_interactive(self) -> bool:
        """Whether a person can be asked."""
        return not self.as_json and sys.stdin.isatty() and sys.stderr.isatty()

    def result(self, document: Any, shown: RenderableType | None = None) -> None:
        """Write the command's result: `document` for machines, else `shown` for people."""
        if self.as_json:
            print(json.dumps(document, indent=2, ensure_ascii=False), flush=True)
        elif shown is not None:
            self.stdout.print(shown, soft_wrap=isinstance(shown, str), markup=False)

    def note(self, text: str) -> None:
        """Say on the way what is going on: a plain line on standard error."""
        self.stderr.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[Step]:
        """Show that something is under way: a spinner on a terminal, a line elsewhere."""
        step = Step(self, text)
        if not self.stderr.is_terminal:
            self.note(f"{text} ...")
            yield step
            if step.text != text:
                self.note(f"✓ {step.text}")
            return
        from rich.markup import escape

        with self.stderr.status(escape(text)) as status:
            self._status = status
            try:
                yield step
            finally:
                self._status = None
        self.note(f"✓ {step.text}")

    def update(self, text: str) -> None:
        """Change what the running step says."""
        if self._status is None:
            self.note(f"  {text}")
            return
        from rich.markup import escape

        self._status.update(escape(text))

    def error(self, error: CocoonError) -> None:
        """Show an error: what failed, why, what to do."""
        parts = {"type": type(error).__name__, "what": error.what, "why": error.why, "hint": error.hint}
        if self.as_json:
            print(json.dumps({"error": parts}, indent=2, ensure_ascii=False), flush=True)
            return
        from rich.text import Text

        self.stderr.print(Text.assemble(("error: ", "bold red"), error.what), soft_wrap=True)
        for label in ("why", "hint"):
            if parts[label]:
                self.stderr.print(Text(f"  {label}: {parts[label]}"), soft_wrap=True)


class Step:
    """Something under way."""

    def __init__(self, output: Output, text: str) -> None:
        self._output, self.text = output, text
        self._last = text

    def update(self, detail: str) -> None:
        """Say how far it is."""
        if self._output.stderr.is_terminal:
            self._output.update(f"{self.text}: {detail}")
            return
        # Lines stay: what differs only by the seconds at its end is said once.
        stage = _SECONDS.sub("", detail)
        if stage != self._last:
            self._last = stage
            self._output.update(detail)

    def done(self, text: str) -> None:
        """Replace the words that stay when it is over."""
        self.text = text


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _PLAIN_WIDTH)  # no window to fit into: tables stay whole
    return console
