"""The option that says where the audit trail goes beside its table."""

from __future__ import annotations

import click

HELP = "Pass every audit event on, as a line of JSON, to FILE (made with mode 0600) or to syslog.  [default: the table alone]"
audit_option = click.option("--audit", metavar="FILE|syslog", help=HELP)
