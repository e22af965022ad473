# SPDX-License-Identifier: Apache-2.0
"""scripts/setup, as far as it can be looked at on a machine that has everything."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))


def text(name):
    return Path(ROOT, name).read_text(encoding="utf-8")


def test_services_that_are_said_to_stay_off_are_switched_off():
    said = re.findall(r"^\w+ (\S+) .*\(its service stays off\)$", text("scripts/packages.txt"), re.M)
    off = re.search(r'for package in "\$\{packages\[@\]\}"; do\n\s+case \$package in\n\s+(.*)\)\n', text("scripts/setup"))[1].split(" | ")
    assert len(said) > 2 and sorted(said) == sorted(off)


def test_a_deadline_can_end_what_sudo_runs(tmp_path):
    (tmp_path / "sudo").write_text('#!/bin/sh\necho "$1" >"$0.ran"\nexec "$@"\n')
    (tmp_path / "sudo").chmod(0o755)
    done = subprocess.run(["bash", "-c", 'set -eu; . "$0"; quietly 0.2 waiting sudo sleep 600', os.path.join(ROOT, "scripts/lib/common.sh")],
                          capture_output=True, text=True, timeout=120, check=False,
                          env=dict(os.environ, PATH=f"{tmp_path}:{os.environ['PATH']}", OUTBOX_RELAY_CACHE=str(tmp_path)))
    assert done.returncode == 1 and "waiting did not end within 0.2 s" in done.stderr, done.stderr
    assert (tmp_path / "sudo.ran").read_text() == "timeout\n", "it was told to end a process of root's"


def tree_with_another_patch(folder):
    shutil.copytree(os.path.join(ROOT, "scripts"), folder / "scripts")
    (folder / "scripts/patches/librdkafka-another.patch").write_text("of tomorrow\n")


def librdkafka(script, folder, cache):
    return subprocess.run([os.path.join(folder, "scripts", script[0]), *script[1:]], capture_output=True, text=True, check=False,
                          env=dict(os.environ, OUTBOX_RELAY_CACHE=str(cache)))


def test_a_librdkafka_of_other_patches_is_not_taken(tmp_path):
    folder = librdkafka(["fetch", "--path", "librdkafka"], ROOT, tmp_path / "cache").stdout.strip()
    os.makedirs(folder)
    Path(folder, ".complete").write_text("of today\n")
    done = librdkafka(["librdkafka-prefix"], ROOT, tmp_path / "cache")
    assert done.returncode == 0 and done.stdout.strip() == folder, done.stderr
    tree_with_another_patch(tmp_path)
    done = librdkafka(["librdkafka-prefix"], tmp_path, tmp_path / "cache")
    assert done.returncode == 1 and "run scripts/setup --build-only" in done.stderr, done.stdout
    # The one of today stays, for builds that are configured for it.
    assert librdkafka(["fetch", "--path", "librdkafka"], tmp_path, tmp_path / "cache").stdout.strip() != folder


def stub(folder, name, text):
    (folder / name).write_text("#!/bin/sh\nset -e\n" + text)
    (folder / name).chmod(0o755)


def setup_on(system, tmp_path, unknown="none"):
    """scripts/setup where nothing is installed, as a user whose sudo only writes down what it is asked for; (stderr, those lines)."""
    (tmp_path / "os-release").write_text(system)
    stub(tmp_path, "dpkg-query", "exit 1\n")
    stub(tmp_path, "id", "echo 1000\n")
    stub(tmp_path, "sudo", f'echo "$@" >>{tmp_path}/asked\n')
    stub(tmp_path, "apt-cache", f'[ "$2" != {unknown} ]\n')
    stub(tmp_path, "npm", "exit 1\n")
    done = subprocess.run([os.path.join(ROOT, "scripts/setup")], capture_output=True, text=True, check=False, timeout=300,
                          env=dict(os.environ, PATH=f"{tmp_path}:{os.environ['PATH']}", OUTBOX_RELAY_CACHE=str(tmp_path / "cache"),
                                   OUTBOX_RELAY_OS_RELEASE=str(tmp_path / "os-release")))
    return done.stderr, (tmp_path / "asked").read_text()


def test_on_debian_12_a_name_that_apt_does_not_know_is_a_fault_of_its_index(tmp_path):
    said, asked = setup_on('ID=debian\nVERSION_ID="12"\n', tmp_path, unknown="libclang-rt-14-dev")
    assert "not Debian 12" not in said and " libclang-rt-14-dev " in asked, said


def test_another_system_goes_on_without_what_its_apt_does_not_know(tmp_path):
    said, asked = setup_on('ID=ubuntu\nVERSION_ID="24.04"\n', tmp_path, unknown="libclang-rt-14-dev")
    assert "this is not Debian 12" in said and "warning: apt does not know libclang-rt-14-dev" in said
    assert " libpq-dev " in asked and "libclang-rt-14-dev" not in asked


# Development packages of Debian, and what docs/installation.md calls them.
NAMES = {"libpq": "libpq", "libcurl4-openssl": "libcurl", "libjansson": "jansson", "libmicrohttpd": "libmicrohttpd", "libsystemd": "libsystemd",
         "libsimdjson": "simdjson", "liblz4": "lz4", "libxxhash": "xxhash", "libzstd": "zstd", "libssl": "openssl", "libsasl2": "cyrus-sasl",
         "zlib1g": "zlib"}


def test_other_systems_are_told_all_that_the_build_needs():
    needed = set(re.findall(r"^build (\S+)-dev\b", text("scripts/packages.txt"), re.M)) - {"libcriterion", "dpkg"}
    document = re.sub(r"\s+", " ", text("docs/installation.md"))
    told = re.search(r"development files of (.*?)\.", document)[1].replace(" and ", ", ").split(", ")
    assert sorted(told) == sorted(NAMES[name] for name in needed)


def librdkafka_without(left_out, tmp_path, *options):
    """scripts/fetch librdkafka where configure does not find these; what it would need beside is a stub."""
    libraries = " ".join(f"-l{name}" for name in ("ssl", "curl", "zstd", "lz4", "sasl2", "z") if name not in left_out)
    programs, source = tmp_path / "bin", tmp_path / "package/deps/librdkafka"
    programs.mkdir()
    (source / "src").mkdir(parents=True)
    for name in ("src/rdkafka.h", "src/rdkafka_mock.h", "src/librdkafka.a", "LICENSES.txt"):
        (source / name).write_text("")
    stub(source, "configure", f'echo "MKL_DYNAMIC_LIBS= {libraries}" >Makefile.config\n')
    subprocess.run(["tar", "-czf", tmp_path / "given.tgz", "-C", tmp_path, "package"], check=True)
    stub(programs, "npm", "exit 1\n" if options else f'for last; do :; done\ntar -czf "$last/x.tgz" -C {tmp_path} package\n')
    stub(programs, "sha512sum", f"echo {re.search('LIBRDKAFKA_SHA512=(.*)', text('scripts/pins'))[1]} x\n")
    for name in ("make", "gcc", "patch"):
        stub(programs, name, "")
    done = subprocess.run([os.path.join(ROOT, "scripts/fetch"), "librdkafka", *options], capture_output=True, text=True, check=False, timeout=300,
                          env=dict(os.environ, OUTBOX_RELAY_CACHE=str(tmp_path / "cache"), PATH=f"{programs}:{os.environ['PATH']}"))
    return done, list(tmp_path.glob("cache/librdkafka-*"))


@pytest.mark.parametrize("left_out", [["zstd"], ["z", "sasl2"]])
def test_a_librdkafka_that_lacks_something_is_not_kept(left_out, tmp_path):
    done, kept = librdkafka_without(left_out, tmp_path)
    assert done.returncode == 1 and not kept, done.stderr
    assert all(name in done.stderr.split("without")[1].split(":")[0].split() for name in left_out), done.stderr


def test_a_librdkafka_that_lacks_nothing_is_kept(tmp_path):
    done, kept = librdkafka_without([], tmp_path)
    assert done.returncode == 0 and len(kept) == 1 and (kept[0] / ".complete").exists(), done.stderr


def test_librdkafka_comes_from_a_file_where_there_is_no_network(tmp_path):
    done, kept = librdkafka_without([], tmp_path, "--from", str(tmp_path / "given.tgz"))
    assert done.returncode == 0 and len(kept) == 1, done.stderr


def test_a_file_that_is_not_the_pinned_package_is_not_taken(tmp_path):
    (tmp_path / "other.tgz").write_text("something else")
    done = subprocess.run([os.path.join(ROOT, "scripts/fetch"), "librdkafka", "--from", tmp_path / "other.tgz"], capture_output=True, text=True,
                          check=False, env=dict(os.environ, OUTBOX_RELAY_CACHE=str(tmp_path / "cache")))
    assert done.returncode == 1 and "is not what scripts/pins expects" in done.stderr and not list(tmp_path.glob("cache/librdkafka-*"))
