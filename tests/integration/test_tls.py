# SPDX-License-Identifier: Apache-2.0
"""ClickHouse and receivers of alerts whose certificates are of a private authority: believed where ca_file names it, else not; and those of the relay."""
import json
import os
import shutil
import signal
import ssl
import stat
import urllib.parse

import psycopg2
import pytest
from psycopg2.extensions import make_dsn
from relaytools.authority import Authority, TlsFront
from relaytools.receiver import Receiver
from relaytools.relay import command, wait_until, write_config
from relaytools.sessions import autocommitting


@pytest.fixture
def authority(tmp_path):
    return Authority(str(tmp_path))


@pytest.fixture
def clickhouse_front(authority, servers):
    front = TlsFront(authority.server_context(), urllib.parse.urlsplit(servers.clickhouse_url).port)
    yield front
    front.close()


def checked(place, **clickhouse):
    config = write_config(os.path.join(place.folder, "check.ini"), place.sections(clickhouse=clickhouse))
    return command("check", config=config, binary=place.binary)


def test_clickhouse_is_believed_by_the_authority_that_the_configuration_names(place, authority, clickhouse_front):
    url = f"https://127.0.0.1:{clickhouse_front.port}"
    strange = checked(place, url=url)
    assert strange.returncode == 1 and "ca_file" in strange.stdout, strange.stdout + strange.stderr
    wrong_name = checked(place, url=url.replace("127.0.0.1", "localhost"), ca_file=authority.ca_file)
    assert wrong_name.returncode == 1 and "certificate" in wrong_name.stdout, wrong_name.stdout
    place.relay(clickhouse={"url": url, "ca_file": authority.ca_file})
    place.insert_event()
    place.wait_inserted(1)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_clickhouse_that_wants_a_client_certificate_gets_it(place, authority, servers, version):
    context = authority.server_context(wants_certificate=True)
    context.maximum_version = version
    front = TlsFront(context, urllib.parse.urlsplit(servers.clickhouse_url).port)
    try:
        believed = {"url": f"https://127.0.0.1:{front.port}", "ca_file": authority.ca_file}
        stranger = checked(place, **believed)
        assert stranger.returncode == 1 and "client certificate (cert_file, key_file)" in stranger.stdout, stranger.stdout
        place.relay(clickhouse=believed | {"cert_file": authority.cert_file, "key_file": authority.key_file})
        place.insert_event()
        place.wait_inserted(1)
    finally:
        front.close()


def test_a_receiver_that_wants_a_client_certificate_gets_it_after_a_reload(watch_place, authority):
    receiver = Receiver(tls=authority.server_context(wants_certificate=True))
    believed = {"webhook_url": receiver.url, "ca_file": authority.ca_file}
    known = believed | {"cert_file": authority.cert_file, "key_file": authority.key_file}
    try:
        relay = watch_place.relay(alert=believed)
        watch_place.write_events(3)
        wait_until(lambda: any("cert_file" in event.get("error", "") for event in relay.events("alerts.not_sent")), "what is missing is said")
        assert not receiver.posts
        write_config(relay.config, watch_place.sections(alert=known))
        relay.signal(signal.SIGHUP)
        wait_until(lambda: receiver.alerts("outbox_backlog"), "the alert arrives", seconds=90)
        line = next(line for line in command("check", config=relay.config).stdout.splitlines() if "alert webhook" in line)
        assert "FAIL" not in line, line
    finally:
        receiver.close()


def test_receivers_are_believed_by_the_authority_that_a_reload_brings(watch_place, authority):
    receiver = Receiver(tls=authority.server_context())
    try:
        relay = watch_place.relay(alert={"webhook_url": receiver.url})
        watch_place.write_events(3)
        wait_until(lambda: any("ca_file" in event.get("error", "") for event in relay.events("alerts.not_sent")), "what is missing is said")
        assert not receiver.posts
        write_config(relay.config, watch_place.sections(alert={"webhook_url": receiver.url, "ca_file": authority.ca_file}))
        relay.signal(signal.SIGHUP)
        wait_until(lambda: receiver.alerts("outbox_backlog"), "the alert arrives", seconds=90)
    finally:
        receiver.close()


def test_check_asks_receivers_by_the_same_authority(watch_place, authority):
    receiver = Receiver(tls=authority.server_context())
    config = os.path.join(watch_place.folder, "check.ini")
    try:
        write_config(config, watch_place.sections(alert={"webhook_url": receiver.url}))
        strange = next(line for line in command("check", config=config).stdout.splitlines() if "alert webhook" in line)
        write_config(config, watch_place.sections(alert={"webhook_url": receiver.url, "ca_file": authority.ca_file}))
        believed = next(line for line in command("check", config=config).stdout.splitlines() if "alert webhook" in line)
    finally:
        receiver.close()
    assert "FAIL" in strange and "FAIL" not in believed, (strange, believed)


ELSEWHERE = "0.0.0.0"    # reaches this machine, but no address of it within


def on_the_way(place, **changes):
    """What check says of ways to servers: [(what, text)], warnings only."""
    config = write_config(os.path.join(place.folder, "check.ini"), place.sections(**changes))
    found = json.loads(command("check", "--json", config=config, binary=place.binary).stdout)["checks"]
    words = ("in clear", "not verified")
    return [(one["what"], one["text"]) for one in found if one["level"] == "warn" and any(word in one["text"] for word in words)], found


def test_check_warns_of_ways_that_are_not_encrypted(place, authority, clickhouse_front):
    told, found = on_the_way(place, alert={"webhook_url": "http://localhost:1/secret", "slack_url": "https://example.invalid/x"})
    assert not told and ("transport", "ok") in [(one["what"], one["level"]) for one in found], "nothing leaves this machine"
    url = place.servers.clickhouse_url.replace("127.0.0.1", ELSEWHERE)
    told, found = on_the_way(place, postgres={"dsn": make_dsn(place.dsn, hostaddr=ELSEWHERE)},
                             kafka={"bootstrap.servers": place.servers.bootstrap.replace("127.0.0.1", ELSEWHERE)},
                             clickhouse={"url": url}, alert={"webhook_url": "http://example.invalid/secret"})
    assert sorted(what for what, _ in told) == ["alert webhook", "clickhouse", "kafka", "postgres"], told
    texts = dict(told)
    assert "sslmode does not insist" in texts["postgres"] and url in texts["clickhouse"] and "password and events" in texts["clickhouse"], texts
    assert "secret" not in json.dumps(found) and "transport" not in [one["what"] for one in found]
    told, _ = on_the_way(place, clickhouse={"url": f"https://127.0.0.1:{clickhouse_front.port}", "ca_file": authority.ca_file})
    assert not told, told


@pytest.mark.parametrize("settings, words", [
    ({"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}, "password or token"),
    ({"security.protocol": "sasl_plaintext", "sasl.mechanism": "SCRAM-SHA-512"}, "events go in clear, after a login"),
    ({"security.protocol": "ssl", "enable.ssl.certificate.verification": "false"}, "brokers are not verified"),
    ({"security.protocol": "ssl", "ssl.endpoint.identification.algorithm": "none"}, "names are not verified"),
    ({"security.protocol": "ssl"}, None)])
def test_check_judges_the_way_to_brokers_by_what_librdkafka_makes_of_the_settings(no_place, settings, words):
    login = {"sasl.username": "relay", "sasl.password": "hush"} if "sasl.mechanism" in settings else {}
    told, _ = on_the_way(no_place, publish={"enabled": "false"}, kafka={"bootstrap.servers": f"127.0.0.1:1,{ELSEWHERE}:1"} | settings | login)
    assert [words in text for what, text in told] == ([True] if words else []), told
    told, _ = on_the_way(no_place, publish={"enabled": "false"}, kafka={"bootstrap.servers": "[::1]:1, PLAINTEXT://localhost:1"} | settings | login)
    assert not told, told


def test_check_judges_the_way_to_postgresql_by_sslmode(place, authority):
    def dsn(**words):
        return make_dsn(place.dsn, host="127.0.0.1", hostaddr=ELSEWHERE, **words)

    def told(**words):
        found, everything = on_the_way(place, postgres={"dsn": dsn(**words)})
        assert not any(one["level"] == "FAIL" and one["what"] == "postgres" for one in everything), everything
        return [text for what, text in found if what == "postgres"]

    def takes_tls():
        try:
            psycopg2.connect(dsn(sslmode="require")).close()
            return True
        except psycopg2.OperationalError:
            return False
    with autocommitting(place.admin_dsn) as cursor:
        cursor.execute("SHOW data_directory")
        data = cursor.fetchone()[0]
        for name in ("server.key", "server.pem"):
            copy = shutil.copyfile(os.path.join(authority.folder, name), os.path.join(data, "tls-" + name))
            os.chmod(copy, stat.S_IRUSR | stat.S_IWUSR)
            os.chown(copy, os.stat(data).st_uid, os.stat(data).st_gid)
        cursor.execute("ALTER SYSTEM SET ssl_key_file = 'tls-server.key'")
        cursor.execute("ALTER SYSTEM SET ssl_cert_file = 'tls-server.pem'")
        cursor.execute("ALTER SYSTEM SET ssl = on")
        cursor.execute("SELECT pg_reload_conf()")
        try:
            wait_until(takes_tls, "PostgreSQL takes TLS")
            assert not told(sslmode="verify-full", sslrootcert=authority.ca_file)
            assert "sslmode does not insist" in told(sslmode="prefer")[0]
            assert "the server is not verified" in told(sslmode="require")[0]
            assert "name is not verified" in told(sslmode="verify-ca", sslrootcert=authority.ca_file)[0]
            assert "name is not verified" in told(sslmode="require", sslrootcert=authority.ca_file)[0]
        finally:
            for name in ("ssl", "ssl_cert_file", "ssl_key_file"):
                cursor.execute(f"ALTER SYSTEM RESET {name}")
            cursor.execute("SELECT pg_reload_conf()")
