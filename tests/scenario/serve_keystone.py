"""Serves a real Keystone on loopback; run by the Python that Keystone is installed for. Prints the port, then answers until it is ended.

Usage: serve_keystone.py PORT. Keystone reads ``OS_KEYSTONE_CONFIG_FILES`` from the environment.
"""

import socketserver
import sys
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from keystone.server.wsgi import initialize_public_application


class Quiet(WSGIRequestHandler):
    def log_message(self, *_words):
        pass


class Threaded(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


port = int(sys.argv.pop())
make_server("127.0.0.1", port, initialize_public_application(), Threaded, Quiet).serve_forever()
