# SPDX-License-Identifier: Apache-2.0
"""scripts/lib/debian-package: dpkg takes its package, and leaves alone what an administrator wrote."""
import os
import subprocess

import pytest

import config_keys

ROOT = config_keys.ROOT
NAME = "outbox-relay"


@pytest.fixture(scope="module")
def package(tree, tmp_path_factory):
    folder = tmp_path_factory.mktemp("package")
    folder.chmod(0o2775)  # as a folder of a group
    done = subprocess.run([os.path.join(ROOT, "scripts/lib/debian-package"), tree.parent, folder],
                          capture_output=True, text=True, check=False, umask=0o077)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def field(package, name):
    return subprocess.run(["dpkg-deb", "--field", package, name], capture_output=True, text=True, check=True).stdout.strip()


def test_it_depends_on_what_the_binary_is_linked_with(package):
    depends = {one.split()[0] for one in field(package, "Depends").split(",")}
    assert {"libc6", "libpq5", "libcurl4", "libssl3", "ca-certificates"} <= depends


def test_this_machine_could_install_it(package):
    done = subprocess.run(["apt-get", "--simulate", "install", "--no-install-recommends", package], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"Inst {NAME} " in done.stdout, done.stdout + done.stderr


def test_its_version_is_before_the_release_and_names_the_build(package, tree):
    version = field(package, "Version")
    release, _, rest = version.partition("~")
    said = subprocess.run([tree / "bin/outbox-relay", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert said.split("+")[0] == release
    assert rest.partition("+")[2] == said.partition("+")[2].replace("-", ".")
    for later in (release, f"{release}~99991231000000+0"):
        assert subprocess.run(["dpkg", "--compare-versions", version, "lt", later], check=False).returncode == 0


class System:
    """A folder that dpkg takes for the whole system, so that nothing of this machine is changed."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "var/lib/dpkg/updates").mkdir(parents=True)
        (folder / "var/lib/dpkg/info").mkdir()
        (folder / "var/lib/dpkg/status").touch()

    def dpkg(self, *words):
        # An ordinary user is root in a namespace of its own.
        done = subprocess.run([*([] if os.geteuid() == 0 else ["unshare", "--map-root-user"]), "dpkg", f"--root={self.folder}",
                               "--force-script-chrootless,depends", f"--log={self.folder}/log", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def state(self):
        done = subprocess.run(["dpkg-query", f"--admindir={self.folder}/var/lib/dpkg", "-W", "-f", "${db:Status-Status}", NAME],
                              capture_output=True, text=True, check=False)
        return done.stdout or None


def test_removing_it_leaves_what_an_administrator_wrote(package, tmp_path):
    system = System(tmp_path)
    system.dpkg("--install", package)
    assert system.state() == "installed"
    etc = tmp_path / "etc/outbox-relay"
    assert os.listdir(etc) == ["secrets"] and (etc / "secrets").stat().st_mode & 0o777 == 0o700
    said = subprocess.run([tmp_path / "usr/bin/outbox-relay", "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{NAME} ")
    (etc / "outbox-relay.ini").write_text("[postgres]\n")
    (etc / "secrets/postgres_password").write_text("secret")
    system.dpkg("--install", package)  # an upgrade asks nothing
    system.dpkg("--purge", NAME)
    assert system.state() is None
    assert sorted(os.listdir(etc)) == ["outbox-relay.ini", "secrets"] and os.listdir(etc / "secrets") == ["postgres_password"]
    assert not (tmp_path / "usr/bin/outbox-relay").exists()


def test_it_is_gone_without_a_trace_where_nobody_wrote_anything(package, tmp_path):
    system = System(tmp_path)
    system.dpkg("--install", package)
    system.dpkg("--purge", NAME)
    assert not (tmp_path / "etc/outbox-relay").exists()


@pytest.mark.parametrize("words", [["/nowhere", "b", "c"], ["--bad"]])
def test_wrong_arguments_are_refused(words):
    done = subprocess.run([os.path.join(ROOT, "scripts/package"), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "usage: scripts/package" in done.stderr
