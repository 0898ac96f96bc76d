"""One node of its own: data in a directory that goes with it, ports that the system gives, ended by
its process id. Asks the machine for nothing but the program."""

import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time
import urllib.request

SETTINGS = """\
[[access.keys]]
pem_file = "keys/token.pem"
algorithms = ["EdDSA"]
audience = "holm"
scopes = "grant"
[secrets]
master_keys = [{ generation = 1, file = "master.key" }]
[log]
level = "warn"
"""

SCOPES = [
    "config:*",
    "secrets:*",
    "access:read",
    "access:manage",
    "audit:read",
    "cluster:read",
    "cluster:manage",
    "cluster:backup",
]


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as port:
        port.bind(("127.0.0.1", 0))
        return port.getsockname()[1]


class Node:
    def __init__(self, program):
        self.program = os.path.abspath(program)
        self.dir = tempfile.TemporaryDirectory(prefix="holm-contract-")
        self.path = pathlib.Path(self.dir.name)
        for line in (
            ["pki", "init"],
            ["pki", "issue", "--node", "eu-west-1"],
            ["keys", "generate"],
            ["token", "keygen"],
        ):
            self.holm(*line)
        peer, http = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM)
        self.url = f"http://127.0.0.1:{http}"
        (self.path / "topology.toml").write_text(
            'cluster = "contract"\nrtt_ms_default = 1\n[[regions]]\nname = "eu-west"\n'
            f'place = "here"\nnodes = [{{ name = "eu-west-1", peer = "127.0.0.1:{peer}", '
            f'http = "127.0.0.1:{http}" }}]\n'
        )
        (self.path / "holm.toml").write_text(SETTINGS)
        scopes = [part for scope in SCOPES for part in ("--scope", scope)]
        self.token = self.holm("token", "issue", "--subject", "contract", *scopes)
        self.log = open(self.path / "log", "w+")
        self.process = subprocess.Popen(
            [self.program, "serve", "--topology", "topology.toml", "--settings", "holm.toml"]
            + ["--node", "eu-west-1", "--data", "data"],
            cwd=self.path,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
        )

    def holm(self, *line):
        done = subprocess.run(
            [self.program, *line], cwd=self.path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def __enter__(self):
        deadline = time.monotonic() + 30
        while True:
            try:
                self.ask("GET", "/readyz")
                # Founded: the roles that are built in are there.
                if json.loads(self.ask("GET", "/roles"))["items"]:
                    return self
            except OSError as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    self.stop()
                    raise error
            time.sleep(0.1)

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        self.dir.cleanup()

    def ask(self, method, path, body=None):
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.data = json.dumps(body).encode()
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()
