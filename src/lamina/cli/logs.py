"""The log of a process that serves: events with fields, one line each, on standard error."""

from __future__ import annotations

import logging
import sys

import click
import structlog

option = click.option("--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"]))


def configure(level: str) -> None:
    """From this level on."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,  # without local variables, which may hold secrets
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
