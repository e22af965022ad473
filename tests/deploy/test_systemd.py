# SPDX-License-Identifier: Apache-2.0
"""deploy/systemd: the unit is understood, closed, and agrees with the relay's own times."""
import os
import re
import shutil
import subprocess

import pytest

import config_keys

UNIT = os.path.join(config_keys.ROOT, "deploy/systemd/outbox-relay.service")
DROP_IN = os.path.join(config_keys.ROOT, "deploy/systemd/credentials.conf")


@pytest.fixture
def unit(tmp_path):
    """The unit with the drop-in, its programs replaced by ones that are here (verify looks for them)."""
    with open(UNIT, encoding="utf-8") as file:
        text = file.read()
    path = tmp_path / "outbox-relay.service"
    path.write_text(text.replace("/usr/bin/outbox-relay", "/bin/true"), encoding="utf-8")
    folder = tmp_path / "outbox-relay.service.d"
    folder.mkdir()
    shutil.copy(DROP_IN, folder / "credentials.conf")
    return path


def setting(name):
    with open(UNIT, encoding="utf-8") as file:
        found = re.findall(rf"^{name}=(.*)$", file.read(), re.M)
    assert found, f"{name} is not set"
    return found[-1]


def test_verify(unit):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)], capture_output=True,
                          text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "outbox-relay" in line]
    assert done.returncode == 0 and not ours, done.stdout + done.stderr


def test_verify_finds_a_mistake(unit):
    unit.write_text(unit.read_text(encoding="utf-8") + "\n[Service]\nWatchdogSecs=1\n", encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    assert "WatchdogSecs" in done.stderr


def test_exposure(unit):
    done = subprocess.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", str(unit)],
                          capture_output=True, text=True, check=False)
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert score, done.stdout + done.stderr
    assert float(score.group(1)) <= 2.0 and done.returncode == 0


def test_stop_is_given_more_time_than_the_drain_takes():
    with open(os.path.join(config_keys.ROOT, "deploy/outbox-relay.ini"), encoding="utf-8") as file:
        drain = int(re.search(r"^;drain_timeout = (\d+)s$", file.read(), re.M).group(1))
    assert int(setting("TimeoutStopSec").rstrip("s")) > drain + 5


def test_it_is_told_and_watched():
    assert setting("Type") == "notify"
    assert setting("ExecReload") == "/bin/kill -HUP $MAINPID"
    assert 10 <= int(setting("WatchdogSec").rstrip("s")) <= 60
    assert setting("Restart") == "always"
    assert setting("RestartPreventExitStatus").split() == ["2", "78"]  # bad usage, bad configuration


def test_the_resolver_may_ask_for_the_machines_addresses():
    """Refused, it takes the machine for one with IPv4 and IPv6, and every second first connection to a broker with both fails."""
    assert set(setting("RestrictAddressFamilies").split()) == {"AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"}


def test_secrets_are_credentials():
    with open(DROP_IN, encoding="utf-8") as file:
        text = file.read()
    loaded = re.findall(r"^LoadCredential=(\w+):/etc/outbox-relay/secrets/\1$", text, re.M)
    used = re.findall(r"^Environment=(\w+)=%d/(\w+)$", text, re.M)
    assert loaded and loaded == [name for _, name in used]
    assert not config_keys.unknown_variables(variable for variable, _ in used)
    with open(UNIT, encoding="utf-8") as file:
        assert "password" not in file.read().lower()
