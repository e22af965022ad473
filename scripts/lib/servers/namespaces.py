# SPDX-License-Identifier: Apache-2.0
"""A network of its own for the nodes of one cluster: each node has a network namespace with an address, and all are on one bridge,
as this machine is. So a node can be cut off from another one while everybody here still reaches both. Needs root and `ip`.

Addresses are of 198.18.0.0/15, which is for such use (RFC 2544). Nothing of it outlives a reboot; make() makes what is not there."""
import json
import os
import random
import shutil
import subprocess

from .process import ServerError

NOWHERE = "02:00:00:00:00:00"   # an Ethernet address that nobody has


def _ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        raise ServerError(f"ip {' '.join(words)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _ip_or_not(*words):
    """It may have nothing to do."""
    subprocess.run(["ip", *words], capture_output=True, timeout=30, check=False)


def free_network():
    """The number of a network that nobody on this machine uses."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        raise ServerError("network namespaces need root and the command ip (package iproute2)")
    used = {line["ifname"] for line in json.loads(_ip("-json", "link", "show"))}
    for _ in range(1000):
        number = random.randint(1, 254)
        if Network(number, 0).bridge not in used:
            return number
    raise ServerError("found no free network in 1000 tries; delete bridges outbox* that nobody uses (ip link)")


class Network:
    def __init__(self, number, nodes):
        self.number, self.nodes, self.bridge = number, range(1, nodes + 1), f"outbox{number}"

    def address(self, node):
        return f"198.18.{self.number}.{node}"

    def _namespace(self, node):
        return f"{self.bridge}-{node}"

    def inside(self, node):
        """What to put in front of a command line; the process stays the same."""
        return ["ip", "netns", "exec", self._namespace(node)]

    def make(self):
        if self.bridge not in {line["ifname"] for line in json.loads(_ip("-json", "link", "show"))}:
            _ip("link", "add", self.bridge, "type", "bridge")
            _ip("address", "add", f"198.18.{self.number}.254/24", "dev", self.bridge)
            _ip("link", "set", self.bridge, "up")
        there = _ip("netns", "list").split()
        for node in self.nodes:
            name, here = self._namespace(node), f"{self.bridge}h{node}"
            if name in there:
                continue
            _ip("netns", "add", name)
            _ip("link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", here, "master", self.bridge, "up")
            _ip("-n", name, "address", "add", f"{self.address(node)}/24", "dev", "eth0")
            _ip("-n", name, "link", "set", "lo", "up")
            _ip("-n", name, "link", "set", "eth0", "up")

    def remove(self):
        # The links by themselves: those of a namespace that is deleted go some time later.
        for words in [("link", "delete", f"{self.bridge}h{node}") for node in self.nodes] + [("link", "delete", self.bridge)] + \
                [("netns", "delete", self._namespace(node)) for node in self.nodes]:
            _ip_or_not(*words)

    def cut(self, one, other):
        """What either sends the other is lost, without a word."""
        for node, peer in ((one, other), (other, one)):
            _ip("-n", self._namespace(node), "neighbour", "replace", self.address(peer), "lladdr", NOWHERE, "dev", "eth0", "nud", "permanent")

    def mend(self):
        """All reach all."""
        for node in self.nodes:
            for peer in set(self.nodes) - {node}:
                _ip_or_not("-n", self._namespace(node), "neighbour", "delete", self.address(peer), "dev", "eth0")
