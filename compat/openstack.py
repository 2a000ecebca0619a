"""``python -m compat.openstack FILE``: OpenStack Placement as it is shipped, on SQLite in FILE, on a free loopback port."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

warnings.simplefilter("ignore")

from oslo_config import cfg  # noqa: E402 - the libraries of Placement warn while they are imported
from placement import conf, db_api, deploy  # noqa: E402


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_args: object) -> None:
        """Requests are told by who asks."""


def main(file: str) -> None:
    logging.disable(logging.CRITICAL)
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
