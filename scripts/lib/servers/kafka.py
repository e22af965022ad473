# SPDX-License-Identifier: Apache-2.0
"""Apache Kafka in KRaft mode: N nodes, each broker and controller, from the pinned jars in the cache.

Topics are never created by asking for them. Internal topics are small, so that a fresh cluster answers fast.
A killed broker may register again only when its old session has ended, hence the short one (9 s by default).
Ready means: each running node answers, and lists all running nodes.
With --kafka-proxy-ports each node has a second listener, PROXIED, which advertises 127.0.0.1 and the port given for
it: clients that come through proxies on those ports stay behind them, all others connect directly.
With --kafka-short-lived each JVM is one for minutes (see kafka_jvm.py).
With --kafka-namespaces each node has an address and a network namespace of its own (see namespaces.py).
With --kafka-acls each node has a listener RULED, where user `relay` logs in by SASL/PLAIN, and may do what access rules
allow and nothing else. Who comes to the plain listener, as the brokers and tools do, may do everything.
"""

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import uuid

from . import kafka_jvm, process
from .instance import Instance
from .namespaces import Network, free_network
from .ports import free_port

PROPERTIES = """# Written by scripts/services at each start.
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}{more_listeners}
advertised.listeners=PLAINTEXT://{host}:{port}{more_advertised}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT,RULED:SASL_PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor={factor}
min.insync.replicas={in_sync}
offsets.topic.num.partitions=4
offsets.topic.replication.factor={factor}
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor={factor}
transaction.state.log.min.isr={in_sync}
share.coordinator.state.topic.replication.factor={factor}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
"""
ACLS = """authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
listener.name.ruled.sasl.enabled.mechanisms=PLAIN
listener.name.ruled.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_relay="{password}";
"""


class Kafka:
    name = "kafka"

    def __init__(self, instance):
        self.instance = instance
        self.folder = os.path.join(instance.folder, "kafka")
        self._archive_at_exit = None
        nodes = instance.settings(self.name).get("nodes", [])
        self.processes = [instance.process(f"kafka-{number + 1}") for number in range(len(nodes))]

    def configure(self, options):
        settings = self.instance.settings(self.name)
        wanted = options.kafka_nodes
        if not settings:
            nodes = [{"port": free_port(self.instance.folder), "controller_port": free_port(self.instance.folder)} for _ in range(wanted or 1)]
            settings.update(nodes=nodes, cluster_id=base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="),
                            short_lived=options.kafka_short_lived, network=free_network() if options.kafka_namespaces else None)
        elif wanted and wanted != len(settings["nodes"]):
            raise process.ServerError(f"{self.folder} holds a cluster of {len(settings['nodes'])} node(s); `scripts/services reset` before starting {wanted}, or use another --dir")
        self._configure_proxies(settings["nodes"], options.kafka_proxy_ports)
        if options.kafka_acls and "password" not in settings:
            settings["password"] = secrets.token_hex(12)
            for node in settings["nodes"]:
                node["ruled"] = free_port(self.instance.folder)
        self.processes = [self.instance.process(f"kafka-{number + 1}") for number in range(len(settings["nodes"]))]

    def _configure_proxies(self, nodes, proxy_ports):
        if not proxy_ports:
            return
        if len(proxy_ports) != len(nodes):
            raise process.ServerError(f"--kafka-proxy-ports names {len(proxy_ports)} port(s) for {len(nodes)} node(s)")
        for node, proxy_port in zip(nodes, proxy_ports):
            node.setdefault("proxied", {"port": free_port(self.instance.folder)})["proxy_port"] = proxy_port

    def network(self):
        """The nodes' own; None where they share this machine's."""
        settings = self.instance.settings(self.name)
        return Network(settings["network"], len(settings["nodes"])) if settings.get("network") else None

    def _host(self, number):
        network = self.network()
        return network.address(number) if network else "127.0.0.1"

    def release(self):
        """What is left beside files and processes."""
        if self.network():
            self.network().remove()

    def prepare(self):
        if shutil.which("java") is None or shutil.which("kcat") is None:
            raise process.ServerError("Apache Kafka needs java >= 17 and kcat: run scripts/setup")
        settings = self.instance.settings(self.name)
        settings["jars"] = os.path.join(self.instance.fetch("kafka"), "libs")
        if settings.get("short_lived"):
            with contextlib.suppress(process.ServerError):  # the start that follows says what is wrong, if it still is
                kafka_jvm.make_archive(settings["jars"], self._run_once)

    def _run_once(self, folder, archive):
        """A cluster of one node in this folder comes up and ends, and leaves the archive."""
        instance = Instance(folder, self.instance.scripts, [Kafka])
        instance.create()
        node = {"port": free_port(folder), "controller_port": free_port(folder)}
        instance.settings(self.name).update(self.instance.settings(self.name), nodes=[node], network=None)
        one = Kafka(instance)
        one._archive_at_exit = archive
        try:
            one.start()
        finally:
            one.stop()

    def _properties(self, number):
        settings = self.instance.settings(self.name)
        nodes = settings["nodes"]
        folder = os.path.join(self.folder, str(number))
        voters = ",".join(f"{i + 1}@{self._host(i + 1)}:{node['controller_port']}" for i, node in enumerate(nodes))
        factor = min(3, len(nodes))
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "server.properties")
        proxied, ruled = nodes[number - 1].get("proxied"), nodes[number - 1].get("ruled")
        host = self._host(number)
        listeners = f",PROXIED://{host}:{proxied['port']}" if proxied else ""
        advertised = f",PROXIED://127.0.0.1:{proxied['proxy_port']}" if proxied else ""
        own = f",RULED://{host}:{ruled}" if ruled else ""
        with open(path, "w", encoding="utf-8") as file:
            file.write(PROPERTIES.format(more_listeners=listeners + own, more_advertised=advertised + own, node=number, host=host, voters=voters,
                                         data=os.path.join(folder, "data"), factor=factor, in_sync=2 if factor == 3 else 1, **nodes[number - 1]))
            if ruled:
                file.write(ACLS.format(password=settings["password"]))
        return path

    def _java(self, *arguments, archive_at_exit=None):
        settings = self.instance.settings(self.name)
        return kafka_jvm.command(settings["jars"], len(settings["nodes"]), settings.get("short_lived"), *arguments,
                                 archive_at_exit=archive_at_exit)

    def start(self, only=None):
        """All nodes that do not run, or `only` that one; then wait until every running node is a broker again."""
        settings, network = self.instance.settings(self.name), self.network()
        if network:
            network.make()
        for number, node in enumerate(self.processes, 1):
            if (only is None or only is node) and node.identity() is None:
                self._launch(number, node)
        addresses = {node: f"{self._host(index + 1)}:{settings['nodes'][index]['port']}"
                     for index, node in enumerate(self.processes) if node.state() == "running"}
        for node, address in addresses.items():
            node.wait_ready(lambda asked=address: self._probe(asked, set(addresses.values())), 120, node.name)

    def _launch(self, number, node):
        settings, path = self.instance.settings(self.name), self._properties(number)
        if not os.path.exists(os.path.join(self.folder, str(number), "data", "meta.properties")):
            # --cluster-id=ID in one word: a random id may begin with a dash.
            process.run(f"formatting {node.name}", self._java("kafka.tools.StorageTool", "format", "--cluster-id=" + settings["cluster_id"],
                                                              "--config", path), node.log, 60)
        network = self.network()
        node.launch((network.inside(number) if network else []) + self._java("kafka.Kafka", path, archive_at_exit=self._archive_at_exit), cwd=os.path.join(self.folder, str(number)))

    @staticmethod
    def _probe(address, addresses):
        """Asks this very node: the others may still list a broker whose old session has not ended."""
        try:
            done = subprocess.run(["kcat", "-b", address, "-L", "-J", "-m", "2", "-X", "log_level=0"], capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return "no answer"
        if done.returncode != 0:
            return done.stderr.strip()[-200:] or "no answer"
        seen = {broker["name"] for broker in json.loads(done.stdout)["brokers"]}
        missing = addresses - seen
        return f"not in the cluster yet: {', '.join(sorted(missing))}" if missing else None

    def stop(self, process_=None):
        if process_ is not None:
            return process_.stop(signal.SIGTERM, 30)
        # All at once: a broker that stops alone hands over its partitions first, which the last ones cannot.
        live = [node for node in self.processes if node.identity()]
        for node in live:
            node.begin_stop(signal.SIGTERM)
        results = {node.stop(signal.SIGTERM, 30) for node in live}
        for node in self.processes:
            node.forget()
        return ", ".join(sorted(results - {"was not running"})) or ("stopped" if live else "was not running")

    def discard(self, process_):
        return process_.discard()

    def describe(self):
        nodes = self.instance.settings(self.name)["nodes"]
        return {f"kafka-{i + 1}": f"{self._host(i + 1)}:{node['port']}" for i, node in enumerate(nodes)}

    def env(self):
        nodes = self.instance.settings(self.name)["nodes"]
        values = {"KAFKA_BOOTSTRAP": self._addresses(node["port"] for node in nodes), "KAFKA_NODES": len(nodes)}
        for i, node in enumerate(self.processes, 1):
            values[f"KAFKA_{i}_PID_FILE"] = node.pid_file
            values[f"KAFKA_{i}_LOG"] = node.log
        if all("proxied" in node for node in nodes):
            values["KAFKA_PROXIED_BOOTSTRAP"] = ",".join(f"127.0.0.1:{node['proxied']['proxy_port']}" for node in nodes)
            values["KAFKA_PROXIED_TARGETS"] = self._addresses(node["proxied"]["port"] for node in nodes)
        if all("ruled" in node for node in nodes):
            values["KAFKA_RULED_BOOTSTRAP"] = self._addresses(node["ruled"] for node in nodes)
            values.update(KAFKA_RULED_USER="relay", KAFKA_RULED_PASSWORD=self.instance.settings(self.name)["password"])
        if self.network():
            values["KAFKA_NETWORK"] = self.network().number
        return values

    def _addresses(self, ports):
        """One port of each node."""
        return ",".join(f"{self._host(number)}:{port}" for number, port in enumerate(ports, 1))
