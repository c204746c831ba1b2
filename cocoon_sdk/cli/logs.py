"""Where the log of a service goes when a command runs it.

Owns nothing but the redirection: standard output is the command's result, standard error its progress.
"""

from __future__ import annotations

from pathlib import Path


def log_to_file(path: Path) -> None:
    """Send structured logs to a new file, one JSON document a line."""
    import structlog

    path.parent.mkdir(parents=True, exist_ok=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.WriteLoggerFactory(path.open("w", encoding="utf-8")),
    )


def log_to_stderr(*, as_json: bool) -> None:
    """Send structured logs to standard error: as JSON, or for people."""
    import logging
    import sys

    import structlog

    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        # Looked up anew each time: what stands for standard error now may be closed when the command is over.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )
