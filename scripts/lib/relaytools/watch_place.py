# SPDX-License-Identifier: Apache-2.0
"""A database of its own and relays that watch it, without Kafka and ClickHouse: rows that are written stay where they are."""
import os
import re
import tempfile

from psycopg2.extensions import make_dsn, parse_dsn

from .relay import Relay, command, wait_until, write_config
from .sessions import autocommitting, execute_each

EVENT = ("INSERT INTO public.outbox_events (aggregate_type, aggregate_id, event_type, payload) "
         "SELECT 'post', gen_random_uuid(), 'post.created', '{}' FROM generate_series(1, %s)")


class WatchPlace:
    def __init__(self, servers, name, migrate=True):
        self.servers, self.name = servers, re.sub(r"[^a-z0-9]", "", name.lower())
        self.folder = tempfile.mkdtemp(prefix=f"{self.name}-", dir=servers.folder)
        self.relays = []
        execute_each(servers.admin_dsn, f"DROP DATABASE IF EXISTS {self.name} WITH (FORCE)",
            f"CREATE DATABASE {self.name} OWNER {servers.env['POSTGRES_USER']}")
        self.dsn = make_dsn(**dict(parse_dsn(servers.dsn), dbname=self.name))
        if migrate:
            config = write_config(os.path.join(self.folder, "migrate.ini"), self.sections())
            result = command("migrate", "postgres", "up", config=config)
            assert result.returncode == 0, result.stdout + result.stderr

    def sections(self, **changes):
        sections = {
            "postgres": {"dsn": self.dsn, "connect_timeout": "2s"},
            "kafka": {"bootstrap.servers": "127.0.0.1:1"},  # nobody is there: what is written stays
            "insert": {"enabled": "false"},
            "breaker": {"postgres.open": "2s"},
            "health": {"interval": "1s", "warning_rows": "2", "critical_rows": "5"},
            "alert": {"hold": "0s"},
            "http": {"listen": "127.0.0.1:0"},
            "log": {"format": "json"},
        }
        for section, keys in changes.items():
            sections.setdefault(section, {}).update(keys)
        return sections

    def relay(self, name="relay", **changes):
        relay = Relay(self.folder, self.sections(**changes), name)
        self.relays.append(relay)
        relay.start(ready=False)
        relay.wait(lambda: relay.get("/health")[0] in (200, 503), "the HTTP server")
        return relay

    def write_events(self, count):
        with autocommitting(self.dsn) as cursor:
            cursor.execute(EVENT, (count,))

    def delete_events(self):
        execute_each(self.dsn, "DELETE FROM public.outbox_events")

    def close(self):
        for relay in self.relays:
            relay.kill()


def outbox(relay, name="default"):
    """The outbox's instance on the board: {} while there is none."""
    return relay.health()["checks"]["outbox"].get("instances", {}).get(name, {})


def wait_figure(relay, figure, value, seconds=60):
    return wait_until(lambda: outbox(relay).get("figures", {}).get(figure) == value, f"{figure} is {value}", seconds)


def recent(relay, name):
    """[(instance, level)] of the last alerts of this name, oldest first."""
    return [(alert["instance"], alert["level"]) for alert in reversed(relay.health()["alerts"]) if alert["name"] == name]
