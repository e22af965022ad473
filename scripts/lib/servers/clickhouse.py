# SPDX-License-Identifier: Apache-2.0
"""ClickHouse over HTTP: a `clickhouse` >= 23.8 on PATH as a server, else the pinned library and its launcher.

The library serves the port by ClickHouse's own HTTP handler, so statuses, errors, compression and settings are
the engine's; it has no async-insert queue, no HTTPS and no Keeper. The library takes users from its file only (no
CREATE USER) and keeps no query_log. User `relay` may do everything; `reader`, with the same password, may only
SELECT from databases outbox_relay and system, for a minute at most; `odd` is `relay` with a profile that no relay should heed, `narrow` is `relay` with
200 MB for a query; `default` has none, as the launcher's own session needs it so, and may do nothing but what that
session does: a client that forgets its credentials finds no table.

With --clickhouse-roles there is a user for each role of schemas/clickhouse/roles.sql, called as it is and with the same password, who
has its rights in the databases that the option names, and the server gives nothing that is not granted.
"""

import hashlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

from . import process
from .ports import free_port
from .web import open_direct

CONFIG = """<clickhouse>
    <logger><level>warning</level><console>1</console></logger>
    <path>{data}/</path>
    <tmp_path>{data}/tmp/</tmp_path>
    <user_files_path>{data}/user_files/</user_files_path>
    <http_port>{port}</http_port>
    <listen_host>127.0.0.1</listen_host>
    <users_config>{users}</users_config>
    <default_profile>default</default_profile>
    <default_database>default</default_database>
    <max_server_memory_usage>4000000000</max_server_memory_usage>
    <mark_cache_size>67108864</mark_cache_size>
    <query_log>
        <database>system</database>
        <table>query_log</table>
        <flush_interval_milliseconds>1000</flush_interval_milliseconds>
    </query_log>{access}
</clickhouse>
"""

# As a packaged server has it.
ASKS_FOR_GRANTS = """
    <access_control_improvements>
        <select_from_system_db_requires_grant>true</select_from_system_db_requires_grant>
        <select_from_information_schema_requires_grant>true</select_from_information_schema_requires_grant>
        <table_engines_require_grant>true</table_engines_require_grant>
    </access_control_improvements>"""

USERS = """<clickhouse>
    <profiles><default/><odd><limit>2</limit><data_type_default_nullable>1</data_type_default_nullable>
        <materialized_views_ignore_errors>1</materialized_views_ignore_errors><timeout_overflow_mode>break</timeout_overflow_mode>
        <additional_table_filters>{{'outbox_relay.filtered': 'false'}}</additional_table_filters>{odd}</odd>
        <narrow><max_memory_usage>200000000</max_memory_usage></narrow>
        <bounded><constraints><max_execution_time><max>60</max></max_execution_time></constraints></bounded></profiles>
    <quotas><default/></quotas>
    <users>
        <default>
            <password></password>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile><quota>default</quota>
            <grants>
                <query>GRANT SYSTEM LISTEN ON *.*</query>
                <query>GRANT CREATE TEMPORARY TABLE, FILE ON *.*</query>
            </grants>
        </default>
        <relay>
            <password_sha256_hex>{hash}</password_sha256_hex>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile><quota>default</quota>
            <access_management>1</access_management>
        </relay>
        <odd>
            <password_sha256_hex>{hash}</password_sha256_hex>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>odd</profile><quota>default</quota>
            <access_management>1</access_management>
        </odd>
        <narrow>
            <password_sha256_hex>{hash}</password_sha256_hex>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>narrow</profile><quota>default</quota>
            <access_management>1</access_management>
        </narrow>
        <reader>
            <password_sha256_hex>{hash}</password_sha256_hex>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>bounded</profile><quota>default</quota>
            <grants><query>GRANT SELECT ON outbox_relay.*</query><query>GRANT SELECT ON system.*</query></grants>
        </reader>{roles}
    </users>
</clickhouse>
"""

# Since 26.2 a profile has these to deduplicate nothing.
ODD = "<deduplicate_insert>disable</deduplicate_insert><deduplicate_insert_select>disable</deduplicate_insert_select>"

ROLE = """
        <{name}>
            <password_sha256_hex>{hash}</password_sha256_hex>
            <networks><ip>127.0.0.1</ip></networks>
            <profile>default</profile><quota>default</quota>
            <grants>{grants}</grants>
        </{name}>"""

# Starts the HTTP port and then reads a line that never comes, so that the library's main() does not return.
SERVE = ("SYSTEM START LISTEN HTTP; SELECT count() FROM file('/dev/stdin', 'LineAsString', 'l String') "
         "SETTINGS max_execution_time = 0")


def server_on_path():
    """(path, version) of a clickhouse >= 23.8 on PATH, or None."""
    path = shutil.which("clickhouse")
    if path is None:
        return None
    try:
        text = subprocess.run([path, "server", "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"version (\d+)\.(\d+)[.\d]*", text)
    if match is None or (int(match[1]), int(match[2])) < (23, 8):
        return None
    return path, match[0].split()[1]


def odd_settings(version):
    """version: of the server on PATH, None: the library, which is newer."""
    return ODD if version is None or tuple(int(part) for part in version.split(".")[:2]) >= (26, 2) else ""


def rights_of_roles(database):
    """{role: [what the file grants to it in this database, as users.xml has it]}"""
    path = os.path.join(os.path.dirname(__file__), "..", "..", "..", "schemas", "clickhouse", "roles.sql")
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"--.*", "", file.read())
    rights = {}
    found = re.findall(r"GRANT\s+([^;]+?)(?:\s+ON\s+(\S+))?\s+TO\s+(\w+)\s*;", text)
    if len(found) != len(re.findall(r"\bGRANT\b", text)):
        raise process.ServerError(f"{path} has a GRANT of another form than `GRANT rights ON table TO role;`")
    for what, where, role in found:
        if not where:
            rights.setdefault(role, []).extend(rights[what])
            continue
        if "." not in where and what != "TABLE ENGINE":
            where = f"{database}.{where}"
        rights.setdefault(role, []).append(f"GRANT {what} ON {where}")
    return rights


class ClickHouse:
    name = "clickhouse"

    def __init__(self, instance):
        self.instance = instance
        self.folder = os.path.join(instance.folder, "clickhouse")
        self.process = instance.process("clickhouse")
        self.processes = [self.process]

    def configure(self, options):
        settings = self.instance.settings(self.name)
        if not settings:
            settings.update(port=free_port(self.instance.folder), password=secrets.token_hex(12), roles=options.clickhouse_roles)

    def prepare(self):
        settings = self.instance.settings(self.name)
        found = server_on_path()
        settings["server"], settings["server_version"] = found or (None, None)
        if not found:
            settings["library"] = self.instance.fetch("clickhouse")

    def start(self):
        settings = self.instance.settings(self.name)
        data = os.path.join(self.folder, "data")
        config, users = os.path.join(self.folder, "config.xml"), os.path.join(self.folder, "users.xml")
        for folder in (data, os.path.join(data, "tmp"), os.path.join(data, "user_files")):
            os.makedirs(folder, exist_ok=True)
        digest = hashlib.sha256(settings["password"].encode()).hexdigest()
        databases = settings.get("roles", [])
        self._write(config, CONFIG.format(data=data, port=settings["port"], users=users, access=ASKS_FOR_GRANTS if databases else ""))
        self._write(users, USERS.format(hash=digest, odd=odd_settings(settings.get("server_version")), roles=self._roles(databases, digest)))
        if settings["server"]:
            argv = [settings["server"], "server", "--config-file=" + config]
        else:
            argv = [os.path.join(settings["library"], "clickhouse-launcher"), os.path.join(settings["library"], "libchdb.so"),
                    "--config-file=" + config, "--path=" + data, f"--http_port={settings['port']}", "--listen_host=127.0.0.1",
                    "--log-level=warning", "--multiquery", "--query=" + SERVE]
        self.process.launch(argv, cwd=self.folder)
        self.process.wait_ready(self._probe, 60, "ClickHouse")
        settings["version"] = self.query("SELECT version()").strip()
        self.query("CREATE DATABASE IF NOT EXISTS outbox_relay")

    @staticmethod
    def _roles(databases, digest):
        rights = {}
        for database in databases:
            for role, grants in rights_of_roles(database).items():
                rights.setdefault(role, []).extend(grants)
        return "".join(ROLE.format(name=role, hash=digest, grants="".join(f"<query>{grant}</query>" for grant in dict.fromkeys(grants)))
                       for role, grants in rights.items())

    @staticmethod
    def _write(path, text):
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)

    def query(self, sql, seconds=20):
        settings = self.instance.settings(self.name)
        request = urllib.request.Request(f"http://127.0.0.1:{settings['port']}/", data=sql.encode(),
                                         headers={"X-ClickHouse-User": "relay", "X-ClickHouse-Key": settings["password"]})
        try:
            with open_direct(request, seconds) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise process.ServerError(f"ClickHouse refused `{sql}`: {error.read().decode('utf-8', 'replace')[:500]}") from None
        except OSError as error:
            raise process.ServerError(f"ClickHouse did not answer `{sql}`: {error}") from None

    def _probe(self):
        try:
            return None if self.query("SELECT 1", 5) == "1\n" else "an unexpected answer"
        except process.ServerError as error:
            return str(error)

    def stop(self, process_=None):
        return (process_ or self.process).stop(signal.SIGTERM, 15)

    def discard(self, process_):
        return process_.discard()

    def describe(self):
        return {"clickhouse": f"http://127.0.0.1:{self.instance.settings(self.name)['port']}"}

    def env(self):
        s = self.instance.settings(self.name)
        return {"CLICKHOUSE_URL": f"http://127.0.0.1:{s['port']}", "CLICKHOUSE_USER": "relay", "CLICKHOUSE_PASSWORD": s["password"],
                "CLICKHOUSE_READER_USER": "reader", "CLICKHOUSE_ODD_USER": "odd", "CLICKHOUSE_NARROW_USER": "narrow",
                "CLICKHOUSE_DATABASE": "outbox_relay", "CLICKHOUSE_VERSION": s.get("version", ""),
                "CLICKHOUSE_PID_FILE": self.process.pid_file, "CLICKHOUSE_LOG": self.process.log}
