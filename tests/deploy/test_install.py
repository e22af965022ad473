# SPDX-License-Identifier: Apache-2.0
"""meson install: the whole tree, and a binary that finds its schemas in it."""
import os
import re
import subprocess

import pytest

import config_keys

ROOT = config_keys.ROOT
BUILD = os.environ.get("RELAY_BUILD", os.path.join(ROOT, "build"))


@pytest.mark.parametrize("level", [None, 3])
def test_a_distribution_that_hardens_by_its_own_flags_has_them(level, tmp_path):
    flags = "-O2" + (f" -D_FORTIFY_SOURCE={level}" if level else "")
    environment = dict(os.environ, CFLAGS=flags, CXXFLAGS=flags)
    subprocess.run(["meson", "setup", "-Dtests=false", str(tmp_path), ROOT], check=True, capture_output=True, env=environment)
    done = subprocess.run(["ninja", "-C", str(tmp_path), "relay/librelay.a.p/base_backoff.c.o"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    commands = subprocess.run(["ninja", "-C", str(tmp_path), "-t", "commands", "relay/librelay.a.p/base_backoff.c.o"],
                              capture_output=True, text=True, check=True).stdout
    assert re.findall(r"_FORTIFY_SOURCE\S*", commands) == [f"_FORTIFY_SOURCE={level or 2}"]


def test_a_big_endian_machine_is_refused(tmp_path):
    """Everything in ClickHouse would have its bytes swapped there, without an error."""
    (tmp_path / "cross.ini").write_text("[binaries]\nc = 'cc'\ncpp = 'c++'\npkg-config = 'pkg-config'\n"
                                        "[host_machine]\nsystem = 'linux'\ncpu_family = 's390x'\ncpu = 's390x'\nendian = 'big'\n")
    done = subprocess.run(["meson", "setup", "-Dtests=false", "--cross-file", str(tmp_path / "cross.ini"), str(tmp_path / "build"), ROOT],
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "needs a little-endian machine" in done.stdout, done.stdout


def test_two_builds_of_a_version_have_different_names(tmp_path):
    subprocess.run(["meson", "setup", "-Dtests=false", "-Dbuild_id=abc1234", str(tmp_path / "build"), ROOT], check=True, capture_output=True)
    assert '#define RELAY_BUILD "0.1.0+abc1234"' in (tmp_path / "build/relay_build.h").read_text(encoding="utf-8")
    done = subprocess.run(["meson", "setup", "-Dtests=false", "-Dbuild_id=it's", str(tmp_path / "other"), ROOT],
                          capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "build_id may have" in done.stdout, done.stdout


def test_a_build_is_named_after_its_commit(tmp_path):
    def call(*words):
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path,
                              env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)})
    name = [os.path.join(ROOT, "scripts/build-version"), "0.1.0"]
    assert call(*name).returncode != 0  # the version alone, then
    (tmp_path / "file").write_text("a")
    for words in (["init", "-q"], ["add", "file"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "a"]):
        assert call("git", *words).returncode == 0
    commit = call("git", "rev-parse", "HEAD").stdout[:12]
    assert call(*name).stdout == f"0.1.0+{commit}\n"
    (tmp_path / "file").write_text("b")
    assert call(*name).stdout == f"0.1.0+{commit}-dirty\n"


def test_the_binary_says_which_build_it_is():
    said = subprocess.run([os.path.join(BUILD, "outbox-relay"), "--version"], capture_output=True, text=True, check=True).stdout
    named = os.path.exists(os.path.join(ROOT, ".git"))
    assert re.match(r"outbox-relay \d+\.\d+\.\d+" + (r"\+[0-9a-f]{12}(-dirty)? " if named else " "), said), said


def files(folder):
    return sorted(os.path.relpath(os.path.join(path, name), folder) for path, _, names in os.walk(folder) for name in names)


def test_schemas_are_whole(tree):
    assert files(tree / "share/outbox-relay/schemas") == files(os.path.join(ROOT, "schemas"))


def test_documents_and_samples(tree):
    docs = tree / "share/doc/outbox-relay"
    for name in ("README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "docs/installation.md", "docs/operations.md", "docs/runbooks.md", "docs/configuration.md", "deploy/outbox-relay.ini",
                 "deploy/systemd/credentials.conf", "deploy/kubernetes/base/kustomization.yaml"):
        assert (docs / name).is_file(), name
    assert (tree / "share/man/man1/outbox-relay.1").is_file()
    assert os.path.realpath(docs / "docs/outbox-relay.1") == os.path.realpath(tree / "share/man/man1/outbox-relay.1")


def test_the_licences_of_what_is_linked_in_are_installed(tree):
    text = (tree / "share/doc/outbox-relay/LICENSES.librdkafka.txt").read_text(encoding="utf-8")
    assert "Magnus Edenhill" in text and "LICENSE.snappy" in text


def test_links_of_the_installed_documents_lead_to_installed_files(tree):
    docs = tree / "share/doc/outbox-relay"
    dead = [f"{name}: {link}" for name in ["README.md", *(f"docs/{name}" for name in os.listdir(docs / "docs"))]
            if name.endswith(".md")
            for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (docs / name).read_text(encoding="utf-8"))
            if "://" not in link and not (docs / name).parent.joinpath(link).exists()]
    assert not dead


def test_the_manual_page_names_the_folder_of_the_documents(tmp_path):
    """Of a prefix of one's own, too."""
    subprocess.run(["meson", "setup", "--prefix=/opt/relay", "-Dtests=false", str(tmp_path), ROOT], check=True, capture_output=True)
    subprocess.run(["ninja", "-C", str(tmp_path), "outbox-relay.1"], check=True, capture_output=True)
    assert "\n.Pa /opt/relay/share/doc/outbox-relay\n" in (tmp_path / "outbox-relay.1").read_text(encoding="utf-8")


def test_the_unit_starts_the_installed_binary(tree):
    text = (tree / "lib/systemd/system/outbox-relay.service").read_text(encoding="utf-8")
    assert "ExecStart=/usr/bin/outbox-relay run " in text
    assert os.access(tree / "bin/outbox-relay", os.X_OK)


def test_nothing_is_installed_outside_of_the_known_places(tree):
    assert sorted(os.listdir(tree)) == ["bin", "lib", "share"]
    assert os.listdir(tree / "bin") == ["outbox-relay"]
    assert not os.path.exists(os.path.join(tree, "../etc"))


def migrate(tree):
    environment = {"PATH": "/usr/bin:/bin", "OUTBOX_RELAY_POSTGRES_DSN": "host=127.0.0.1 port=1",
                   "OUTBOX_RELAY_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "OUTBOX_RELAY_CLICKHOUSE_URL": "http://127.0.0.1:1"}
    return subprocess.run([tree / "bin/outbox-relay", "migrate", "postgres", "up", "--dry-run"], capture_output=True, text=True,
                          timeout=60, env=environment, check=False)


def test_the_binary_finds_its_schemas(tree):
    assert subprocess.run([tree / "bin/outbox-relay", "--help"], capture_output=True, check=False).returncode == 0
    # No server answers; that it got so far means that the files were found.
    done = migrate(tree)
    assert done.returncode != 0 and "connecting to PostgreSQL" in done.stderr, done.stderr
    os.rename(tree / "share/outbox-relay", tree / "share/elsewhere")
    try:
        done = migrate(tree)
        assert done.returncode != 0 and "no schema files" in done.stderr, done.stderr
    finally:
        os.rename(tree / "share/elsewhere", tree / "share/outbox-relay")


def test_another_pinned_librdkafka_configures_the_build_anew():
    with open(os.path.join(BUILD, "build.ninja"), encoding="utf-8") as file:
        again = next(line for line in file if line.startswith("build build.ninja: REGENERATE_BUILD "))
    asked = {word.rsplit("/scripts/", 1)[1] for word in again.split() if "/scripts/" in word}
    patches = {f"patches/{name}" for name in os.listdir(os.path.join(ROOT, "scripts/patches"))}
    assert patches and {"pins", "fetch"} | patches <= asked


def test_librdkafka_is_hardened_and_does_not_know_where_it_was_built():
    folder = subprocess.run([os.path.join(ROOT, "scripts/librdkafka-prefix")], capture_output=True, text=True, check=True).stdout.strip()
    library = os.path.join(folder, "lib/librdkafka.a")
    names = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    assert "__stack_chk_fail" in names and "__snprintf_chk" in names
    with open(library, "rb") as file:
        text = file.read()
    assert b"/.fetch-" not in text and os.path.basename(folder).replace("librdkafka-", "").split("-")[1].encode() in text


def test_the_binary_cannot_be_written_to_where_it_finds_functions():
    dynamic = subprocess.run(["readelf", "-dl", os.path.join(BUILD, "outbox-relay")], capture_output=True, text=True, check=True).stdout
    assert "BIND_NOW" in dynamic and "GNU_RELRO" in dynamic
