"""``python -m compat.openstack FILE``: OpenStack Placement as it is shipped, on SQLite in FILE, on a free loopback port.

Two defects of its search for candidates are mended here, so that its answers can be compared to the last number:

- Where several groups take of one class from one provider, the amounts of one candidate are added up in an object that
  others share, and a candidate then asks for more than the question did. Here every candidate has its own.
- Ways to serve the group without a suffix are one and the same to it where they differ by the tree that they serve. Where
  sharing providers alone serve the group, every tree but one is lost. Here the tree counts.
"""

from __future__ import annotations

import copy
import logging
import sys
import warnings
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

warnings.simplefilter("ignore")

from oslo_config import cfg  # noqa: E402 - the libraries of Placement warn while they are imported
from placement import conf, db_api, deploy  # noqa: E402
from placement.objects.allocation_candidate import AllocationRequest  # noqa: E402
from placement.objects.research_context import RequestWideSearchContext  # noqa: E402


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Requests are told by who asks."""


def mend() -> None:
    equal = AllocationRequest.__eq__

    def same(one: AllocationRequest, other: AllocationRequest) -> bool:
        return bool(equal(one, other)) and one.anchor_root_provider_uuid == other.anchor_root_provider_uuid

    AllocationRequest.__eq__ = same
    RequestWideSearchContext.copy_arr_if_needed = lambda _self, request: copy.copy(request)


def main(file: str) -> None:
    logging.disable(logging.CRITICAL)
    mend()
    config = cfg.ConfigOpts()
    conf.register_opts(config)
    settings = Path(file).with_suffix(".conf")
    settings.write_text(f"[api]\nauth_strategy = noauth2\n[placement_database]\nconnection = sqlite:///{file}\nsync_on_startup = true\n")
    config([], project="placement", default_config_files=[str(settings)], default_config_dirs=[])
    db_api.configure(config)
    application = deploy.loadapp(config)
    with make_server("127.0.0.1", 0, application, handler_class=_Quiet) as server:
        print(f"ready http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1])
