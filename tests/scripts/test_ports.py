# SPDX-License-Identifier: Apache-2.0
"""A port is kept for the folder of its server, also while nobody listens on it."""
import multiprocessing
import os
import shutil
import socket

import pytest

from servers import ports
from servers.process import ServerError


@pytest.fixture
def registry(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path / f"outbox-relay-ports-{os.geteuid()}"


def folder(tmp_path, name):
    made = tmp_path / name
    made.mkdir()
    return str(made)


def only(monkeypatch, count):
    """Leaves the choice between so many ports that are free now."""
    first = ports.free_port("/nowhere")
    monkeypatch.setattr(ports, "FIRST", first)
    monkeypatch.setattr(ports, "LAST", first + count - 1)
    return first


@pytest.mark.usefixtures("registry")
def test_the_port_of_a_server_that_is_down_is_given_to_no_other_while_its_folder_is_there(tmp_path, monkeypatch):
    first = only(monkeypatch, 1)
    one, other = folder(tmp_path, "one"), folder(tmp_path, "other")
    assert ports.free_port(one) == first
    for asking in (one, other):
        with pytest.raises(ServerError, match=f"found no free port between {first} and {first}"):
            ports.free_port(asking)
    shutil.rmtree(one)
    assert ports.free_port(other) == first


@pytest.mark.usefixtures("registry")
def test_a_port_that_somebody_listens_on_is_passed_over(tmp_path, monkeypatch):
    first = only(monkeypatch, 1)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", first))
        listener.listen()
        with pytest.raises(ServerError, match="found no free port"):
            ports.free_port(folder(tmp_path, "one"))


@pytest.mark.usefixtures("registry")
def test_those_who_ask_at_once_get_a_port_each(tmp_path):
    folders = [folder(tmp_path, str(number)) for number in range(8)] * 8
    with multiprocessing.Pool(8) as pool:
        given = pool.map(ports.free_port, folders, chunksize=1)
    assert len(set(given)) == len(given)
    assert set(given) <= set(range(ports.FIRST, ports.LAST + 1))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"x": "/"}', '{"15000": 3}'])
def test_a_registry_that_is_damaged_begins_anew(registry, tmp_path, text):
    registry.write_text(text, encoding="utf-8")
    port = ports.free_port(folder(tmp_path, "one"))
    assert str(port) in registry.read_text(encoding="utf-8")


def test_a_link_in_its_place_is_not_followed(registry, tmp_path):
    target = tmp_path / "target"
    target.write_text("{}", encoding="utf-8")
    registry.symlink_to(target)
    with pytest.raises(ServerError, match=r"outbox-relay-ports-\d+: .*; remove it, or set TMPDIR"):
        ports.free_port(str(tmp_path))
    assert target.read_text(encoding="utf-8") == "{}"
