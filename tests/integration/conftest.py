# SPDX-License-Identifier: Apache-2.0
"""One set of real servers for the whole run (of each worker), a place of its own on them for each test."""
import contextlib
import hashlib
import os
import re

import pytest

from relaytools.place import Place
from relaytools.proxy import Proxy
from relaytools.servers import temporary_servers
from relaytools.watch_place import WatchPlace


def pytest_configure(config):
    config.addinivalue_line("markers", "tsan: also run under ThreadSanitizer")
    config.addinivalue_line("markers", "postgres_versions: also run on the oldest and the newest PostgreSQL, or the versions that it names")
    config.addinivalue_line("markers", "other_postgres: such a run")
    config.addinivalue_line("markers", "own_servers: stops or kills servers, so it has a set of its own")
    config.addinivalue_line("markers", "xdist_group: stays with the others of this name where several tests run at a time")


OTHER_POSTGRES = ("13", "18")   # the oldest and the newest that are supported


def pytest_generate_tests(metafunc):
    """Of another version only a PostgreSQL is started, by the one worker that runs all tests of it."""
    mark = metafunc.definition.get_closest_marker("postgres_versions")
    if mark:
        others = [pytest.param(version, id=f"postgresql{version}", marks=[pytest.mark.other_postgres, pytest.mark.xdist_group(f"PostgreSQL {version}")])
                  for version in mark.args or OTHER_POSTGRES]
        metafunc.parametrize("place", [pytest.param(None, id="distribution"), *others], indirect=True)


# Servers of their own that several tests share, the longest rows of tests first; those of a module are others in another module.
SHARED_SERVERS = ("fragile_servers", "watch_servers", "other_postgres", "proxied_kafka", "ruled_servers")
OF_A_MODULE = ("ruled_servers",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Each of several workers has a set of servers, where any test finds a place. Those that share other servers follow each other on
    one worker, so they begin, and all others go wherever a worker is free."""
    def row(item):
        return next((number for number, name in enumerate(SHARED_SERVERS) if name in item.fixturenames or item.get_closest_marker(name)), len(SHARED_SERVERS))
    for item in items:
        if row(item) < len(SHARED_SERVERS) and not item.get_closest_marker("xdist_group"):
            name = SHARED_SERVERS[row(item)]
            item.add_marker(pytest.mark.xdist_group(f"{name} {item.module.__name__}" if name in OF_A_MODULE else name))
    items.sort(key=row)


@pytest.fixture(scope="session")
def servers():
    """RELAY_TEST_PG_VERSION: another major version than the distribution's, for whoever wants to see all tests on it."""
    with temporary_servers(pg_version=os.environ.get("RELAY_TEST_PG_VERSION")) as shared:
        yield shared


@pytest.fixture(scope="session")
def other_postgres():
    """By version: its servers, started when they are first asked for."""
    with contextlib.ExitStack() as started:
        known = {}

        def of_version(version):
            if version not in known:
                known[version] = started.enter_context(temporary_servers("postgres", pg_version=version))
            return known[version]
        yield of_version


@pytest.fixture(scope="session")
def fragile_servers():
    """For tests that kill and restart servers: the others do not feel it."""
    with temporary_servers() as shared:
        yield shared


def place_name(request):
    """What it begins with names the topics of a place, which outlive it: the end of the test's name for people, and a digest, since
    two tests may end in the same words."""
    name = re.sub(r"[^a-z0-9]", "", request.node.name.lower())[-28:]
    return name + hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:8]


def _place(request, on, postgres=None):
    on.revive()
    return Place(on.with_postgres_of(postgres) if postgres else on, "t" + place_name(request), copied=True)


@pytest.fixture
def place(request, servers):
    version = getattr(request, "param", None)
    place = _place(request, servers, request.getfixturevalue("other_postgres")(version) if version else None)
    yield place
    place.close()


@pytest.fixture
def fragile_place(request, fragile_servers):
    fragile_servers.recover("postgres", "kafka", "clickhouse")
    place = _place(request, fragile_servers)
    yield place
    place.close()


class NoPlace:
    """A folder and a configuration whose servers are not there, for what ends without them."""
    binary = None

    def __init__(self, folder):
        self.folder = folder

    def sections(self, **changes):
        sections = {"postgres": {"dsn": "host=127.0.0.1 port=1 dbname=x user=x"}, "kafka": {"bootstrap.servers": "127.0.0.1:1"},
                    "clickhouse": {"url": "http://127.0.0.1:1", "database": "x"}}
        for section, keys in changes.items():
            sections.setdefault(section.replace("__", " "), {}).update(keys)
        return sections


@pytest.fixture
def no_place(tmp_path):
    return NoPlace(str(tmp_path))


@pytest.fixture(scope="session")
def watch_servers():
    """PostgreSQL and an Alertmanager only; tests may pause and kill them."""
    with temporary_servers("postgres", "alertmanager") as shared:
        yield shared


@pytest.fixture
def watch_place(request, watch_servers):
    watch_servers.recover("postgres", "alertmanager")
    place = WatchPlace(watch_servers, "w" + place_name(request))
    yield place
    place.close()


@pytest.fixture(scope="session")
def proxied_kafka():
    """(servers, proxy): all of Kafka goes through the proxy for clients of KAFKA_PROXIED_BOOTSTRAP."""
    proxy = Proxy(kind="kafka")
    with temporary_servers("kafka", "postgres", "clickhouse", kafka_proxy_ports=[proxy.port]) as servers:
        host, port = servers.env["KAFKA_PROXIED_TARGETS"].split(":")
        proxy.target = (host, int(port))
        yield servers, proxy
    proxy.close()
