"""Where a worker's log goes when a command runs one beside other things.

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
