"""The log of a process that serves: events with fields, one line each, on standard error."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import click
import structlog

option = click.option("--log-level", default="info", show_default=True, type=click.Choice(["debug", "info", "warning", "error"]))

#: what ends a line for some reader, and what a terminal obeys; letters and signs of any script are left
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def neutralised(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
    """The event with every control character of its texts written as an escape: a caller's words are never a line of their own."""
    return {key: _CONTROL.sub(lambda one: ascii(one[0])[1:-1], v) if isinstance(v, str) else v for key, v in event.items()}


def configure(level: str) -> None:
    """From this level on."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,  # without local variables, which may hold secrets
            neutralised,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
