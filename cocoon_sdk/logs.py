"""Where the log of a running program goes: one place, one form, whichever library wrote it.

Owns the redirection of structured and of plain logs. Only programs call it (commands, the worker): a library
leaves logs to whoever runs it. Standard output is a command's result; logs never go there.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Final

import structlog

_OURS: Final = ("cocoon", "cocoon_sdk", "cocoon_worker")
_JSON: Final = structlog.processors.JSONRenderer()


def log_to_stderr(*, as_json: bool, level: str = "info") -> None:
    """Send logs from `level` on to standard error: as JSON, one document a line, or for people."""
    people = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        # The other formatters show the values of variables, and some hold keys or a client's words.
        exception_formatter=structlog.dev.plain_traceback,
    )
    renderer = _JSON if as_json else people
    _send(_StandardError(), renderer, level)


def log_to_file(path: Path) -> None:
    """Send all logs to a new file as JSON, one document a line. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _send(logging.FileHandler(path, mode="w", encoding="utf-8"), _JSON, "debug")


class _StandardError(logging.Handler):
    """Writes each record as one line, to what is standard error then.

    What it is now may be closed when a command is over.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler.emit`: a log that cannot be written ends nothing."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


def _send(handler: logging.Handler, renderer: structlog.typing.Processor, level: str) -> None:
    lowest = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if renderer is _JSON:  # the other one draws them itself
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=shared,
        )
    )
    for name in _OURS:
        logger = logging.getLogger(name)
        for old in list(logger.handlers):
            logger.removeHandler(old)
            old.close()
        logger.addHandler(handler)
        logger.setLevel(lowest)
