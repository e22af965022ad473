# SPDX-License-Identifier: Apache-2.0
"""Apache Kafka in KRaft mode: N nodes, each broker and controller, from the pinned jars in the cache.

Topics are never created by asking for them. Internal topics are small, so that a fresh cluster answers fast.
A killed broker may register again only when its old session has ended, hence the short one (9 s by default).
Ready means: each running node answers, and lists all running nodes.
With --kafka-proxy-ports each node has a second listener, PROXIED, which advertises 127.0.0.1 and the port given for
it: clients that come through proxies on those ports stay behind them, all others connect directly.
With --kafka-acls each node has a listener RULED, where user `relay` logs in by SASL/PLAIN, and may do what access rules
allow and nothing else. Who comes to the plain listener, as the brokers and tools do, may do everything.
"""

import base64
import json
import os
import secrets
import shutil
import signal
import subprocess
import uuid

from . import process

PROPERTIES = """# Written by scripts/services at each start.
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{more_listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more_advertised}
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
# What Kafka's own bin/kafka-server-start.sh gives a broker: with less of a heap the JVM stops for 10 ms and more each second.
STOCK_JVM = ["-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
             "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15"]
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
        nodes = instance.settings(self.name).get("nodes", [])
        self.processes = [instance.process(f"kafka-{number + 1}") for number in range(len(nodes))]

    def configure(self, options, taken):
        settings = self.instance.settings(self.name)
        wanted = options.kafka_nodes
        if not settings:
            nodes = [{"port": process.free_port(taken), "controller_port": process.free_port(taken)} for _ in range(wanted or 1)]
            settings.update(nodes=nodes, cluster_id=base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("="))
        elif wanted and wanted != len(settings["nodes"]):
            raise process.ServerError(f"{self.folder} holds a cluster of {len(settings['nodes'])} node(s); `scripts/services reset` before starting {wanted}, or use another --dir")
        self._configure_proxies(settings["nodes"], options.kafka_proxy_ports, taken)
        if options.kafka_acls and "password" not in settings:
            settings["password"] = secrets.token_hex(12)
            for node in settings["nodes"]:
                node["ruled"] = process.free_port(taken)
        self.processes = [self.instance.process(f"kafka-{number + 1}") for number in range(len(settings["nodes"]))]

    def _configure_proxies(self, nodes, proxy_ports, taken):
        if not proxy_ports:
            return
        if len(proxy_ports) != len(nodes):
            raise process.ServerError(f"--kafka-proxy-ports names {len(proxy_ports)} port(s) for {len(nodes)} node(s)")
        for node, proxy_port in zip(nodes, proxy_ports):
            node.setdefault("proxied", {"port": process.free_port(taken)})["proxy_port"] = proxy_port

    def prepare(self):
        if shutil.which("java") is None or shutil.which("kcat") is None:
            raise process.ServerError("Apache Kafka needs java >= 17 and kcat: run scripts/setup")
        self.instance.settings(self.name)["jars"] = os.path.join(self.instance.fetch("kafka"), "libs")

    def _properties(self, number):
        settings = self.instance.settings(self.name)
        nodes = settings["nodes"]
        folder = os.path.join(self.folder, str(number))
        voters = ",".join(f"{i + 1}@127.0.0.1:{node['controller_port']}" for i, node in enumerate(nodes))
        factor = min(3, len(nodes))
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "server.properties")
        proxied, ruled = nodes[number - 1].get("proxied"), nodes[number - 1].get("ruled")
        listeners = f",PROXIED://127.0.0.1:{proxied['port']}" if proxied else ""
        advertised = f",PROXIED://127.0.0.1:{proxied['proxy_port']}" if proxied else ""
        own = f",RULED://127.0.0.1:{ruled}" if ruled else ""
        with open(path, "w", encoding="utf-8") as file:
            file.write(PROPERTIES.format(more_listeners=listeners + own, more_advertised=advertised + own, node=number, voters=voters,
                                         data=os.path.join(folder, "data"), factor=factor, in_sync=2 if factor == 3 else 1, **nodes[number - 1]))
            if ruled:
                file.write(ACLS.format(password=settings["password"]))
        return path

    def _java(self, *arguments):
        """A JVM on Kafka's jars; warnings and errors go to the log with their time."""
        settings = self.instance.settings(self.name)
        size = STOCK_JVM if len(settings["nodes"]) == 1 else ["-Xmx512m"]
        return ["java", *size, "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
                "-cp", os.path.join(settings["jars"], "*"), *arguments]

    def start(self, only=None):
        """All nodes that do not run, or `only` that one; then wait until every running node is a broker again."""
        settings = self.instance.settings(self.name)
        for number, node in enumerate(self.processes, 1):
            if (only is None or only is node) and node.identity() is None:
                self._launch(number, node)
        ports = {node: settings["nodes"][index]["port"] for index, node in enumerate(self.processes) if node.state() == "running"}
        for node, port in ports.items():
            node.wait_ready(lambda asked=port: self._probe(asked, set(ports.values())), 120, node.name)

    def _launch(self, number, node):
        settings, path = self.instance.settings(self.name), self._properties(number)
        if not os.path.exists(os.path.join(self.folder, str(number), "data", "meta.properties")):
            # --cluster-id=ID in one word: a random id may begin with a dash.
            process.run(f"formatting {node.name}", self._java("kafka.tools.StorageTool", "format", "--cluster-id=" + settings["cluster_id"],
                                                              "--config", path), node.log, 60)
        node.launch(self._java("kafka.Kafka", path), cwd=os.path.join(self.folder, str(number)))

    @staticmethod
    def _probe(port, ports):
        """Asks this very node: the others may still list a broker whose old session has not ended."""
        try:
            done = subprocess.run(["kcat", "-b", f"127.0.0.1:{port}", "-L", "-J", "-m", "2", "-X", "log_level=0"], capture_output=True, text=True, timeout=10, check=False)
        except subprocess.TimeoutExpired:
            return "no answer"
        if done.returncode != 0:
            return done.stderr.strip()[-200:] or "no answer"
        seen = {broker["name"] for broker in json.loads(done.stdout)["brokers"]}
        missing = {f"127.0.0.1:{each}" for each in ports} - seen
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

    def describe(self):
        nodes = self.instance.settings(self.name)["nodes"]
        return {f"kafka-{i + 1}": f"127.0.0.1:{node['port']}" for i, node in enumerate(nodes)}

    def env(self):
        nodes = self.instance.settings(self.name)["nodes"]
        values = {"KAFKA_BOOTSTRAP": ",".join(f"127.0.0.1:{node['port']}" for node in nodes), "KAFKA_NODES": len(nodes)}
        for i, node in enumerate(self.processes, 1):
            values[f"KAFKA_{i}_PID_FILE"] = node.pid_file
            values[f"KAFKA_{i}_LOG"] = node.log
        if all("proxied" in node for node in nodes):
            values["KAFKA_PROXIED_BOOTSTRAP"] = ",".join(f"127.0.0.1:{node['proxied']['proxy_port']}" for node in nodes)
            values["KAFKA_PROXIED_TARGETS"] = ",".join(f"127.0.0.1:{node['proxied']['port']}" for node in nodes)
        if all("ruled" in node for node in nodes):
            values["KAFKA_RULED_BOOTSTRAP"] = ",".join(f"127.0.0.1:{node['ruled']}" for node in nodes)
            values.update(KAFKA_RULED_USER="relay", KAFKA_RULED_PASSWORD=self.instance.settings(self.name)["password"])
        return values
