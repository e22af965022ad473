# SPDX-License-Identifier: Apache-2.0
"""Prometheus' Alertmanager from the distribution, as a real receiver of alerts. It sends nothing anywhere."""

import os
import shutil
import signal

from . import process
from .ports import free_port
from .web import open_direct

CONFIG = """route:
  receiver: nobody
  group_wait: 1s
  group_interval: 1s
receivers:
  - name: nobody
"""


class Alertmanager:
    name = "alertmanager"

    def __init__(self, instance):
        self.instance = instance
        self.folder = os.path.join(instance.folder, "alertmanager")
        self.process = instance.process("alertmanager")
        self.processes = [self.process]

    def configure(self, options):
        del options
        settings = self.instance.settings(self.name)
        if not settings:
            settings.update(port=free_port(self.instance.folder))

    def prepare(self):
        if shutil.which("prometheus-alertmanager") is None:
            raise process.ServerError("prometheus-alertmanager is not installed: run scripts/setup")

    def start(self):
        settings = self.instance.settings(self.name)
        os.makedirs(self.folder, exist_ok=True)
        config = os.path.join(self.folder, "alertmanager.yml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG)
        self.process.launch(["prometheus-alertmanager", "--config.file=" + config, "--storage.path=" + os.path.join(self.folder, "data"),
                             f"--web.listen-address=127.0.0.1:{settings['port']}", "--cluster.listen-address="], cwd=self.folder)
        self.process.wait_ready(self._probe, 30, "Alertmanager")

    def _probe(self):
        url = f"http://127.0.0.1:{self.instance.settings(self.name)['port']}/-/ready"
        try:
            with open_direct(url, 5) as answer:
                return None if answer.status == 200 else f"status {answer.status}"
        except OSError as error:
            return str(error)

    def stop(self, process_=None):
        return (process_ or self.process).stop(signal.SIGTERM, 10)

    def discard(self, process_):
        return process_.discard()

    def describe(self):
        return {"alertmanager": f"http://127.0.0.1:{self.instance.settings(self.name)['port']}"}

    def env(self):
        port = self.instance.settings(self.name)["port"]
        return {"ALERTMANAGER_URL": f"http://127.0.0.1:{port}", "ALERTMANAGER_PID_FILE": self.process.pid_file, "ALERTMANAGER_LOG": self.process.log}
