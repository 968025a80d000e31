"""The product and the scripted vendors as processes, and an admin's REST calls. Standard library only."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path


class Vendors:
    """The scripted vendors: one process, commands on its input, answers on its output (see vendors.rs)."""

    def __init__(self):
        self.process = subprocess.Popen(
            [os.environ["LOCKGATE_VENDORS_BIN"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.table = json.loads(self.process.stdout.readline())

    def _do(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the scripted vendors have died"
        return json.loads(line)

    def fail(self, vendor, status, message, **headers):
        """Answers every request with an error in the vendor's own shape."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self._do(do="always", vendor=vendor, error=status, message=message, headers=headers)

    def refuse_credential(self, vendor):
        """Answers every request as this vendor answers a bad credential."""
        self._do(do="always", vendor=vendor, bad_credential=True)

    def hold_after(self, vendor, events):
        """Sends the first events of a stream and then nothing more."""
        self._do(do="always", vendor=vendor, hold_after=events)

    def as_usual(self, vendor):
        self._do(do="usual", vendor=vendor)

    def seen(self, vendor):
        """Every request since this was asked last; one that is still open comes again."""
        return self._do(do="seen", vendor=vendor)

    def breaches(self):
        return self._do(do="breaches")

    def stop(self):
        self.process.stdin.close()
        self.process.wait(timeout=10)


class Product:
    """`lockgate dev` in a folder of its own, on free ports."""

    def __init__(self, folder: Path):
        self.ready_file = folder / "ready.json"
        self.log = folder / "lockgate.log"
        command = [os.environ["LOCKGATE_BIN"], "dev", "--ready-file", self.ready_file, "--data-dir", folder / "data"]
        command += ["--api-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder)
        deadline = time.monotonic() + 60
        while not self.ready_file.exists():
            assert self.process.poll() is None, f"lockgate dev ended with {self.process.returncode}:\n{self.log.read_text()}"
            assert time.monotonic() < deadline, f"lockgate dev is not ready after a minute:\n{self.log.read_text()}"
            time.sleep(0.05)
        self.ready = json.loads(self.ready_file.read_text())

    def rest(self, method, path, body=None, expect=None):
        headers = {"Authorization": f"Bearer {self.ready['token']}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.ready["api"] + "/api/v1" + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                status, text = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        assert status == expect or (expect is None and 200 <= status < 300), f"{method} {path}: {status} {text.decode()}"
        return json.loads(text) if text else None

    def deploy(self, endpoint):
        answer = self.rest("POST", "/deployments?wait=10s", {"endpoint": endpoint, "gateway": "default"})
        assert answer["status"] == "deployed", answer

    def settle(self):
        """Waits until every node has applied everything."""
        deadline = time.monotonic() + 10
        while True:
            sync = self.rest("GET", "/gateways/default/sync")
            if sync["applied"]:
                return
            assert time.monotonic() < deadline, sync
            time.sleep(0.01)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=30)
        assert code == 0, f"lockgate dev ended with {code} after Ctrl-C:\n{self.log.read_text()[-4000:]}"


@dataclass
class Endpoint:
    """What a developer is given: an Invoke URL, a key and a model."""

    vendor: str
    kind: str
    name: str
    invoke_url: str
    key: str
    model: str
    # What a scripted vendor says; None where the sample upstream makes up its own text.
    text: str | None
