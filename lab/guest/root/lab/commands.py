"""Takes commands from outside: one connection, one command. A JSON line goes in; output comes back, then a line with the exit code."""

import json
import os
import socket
import subprocess
from pathlib import Path

PORT = 5555


def serve() -> None:
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.bind(("0.0.0.0", PORT))  # the network behind it has one other end: the machine that runs the lab
    door.listen(16)
    Path("/dev/console").write_text("LAB READY\n")
    while True:
        connection, _ = door.accept()
        if os.fork() == 0:
            door.close()
            if os.fork() == 0:  # a grandchild, so that nobody has to wait for it
                answer(connection)
            os._exit(0)
        os.wait()
        connection.close()


def answer(connection: socket.socket) -> None:
    with connection, connection.makefile("rb") as said:
        wanted = json.loads(said.readline())
        content = said.read(wanted["stdin"])
        command = subprocess.Popen(wanted["argv"], stdin=subprocess.PIPE, stdout=connection.fileno(), stderr=subprocess.STDOUT)
        command.communicate(content)
        connection.sendall(f"\n{command.returncode}".encode())


serve()
