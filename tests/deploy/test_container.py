# SPDX-License-Identifier: Apache-2.0
"""deploy/container/Containerfile, read and compared with the project, as there may be nothing here that builds images."""
import os
import re
import shlex
import subprocess

import pytest

import config_keys

ROOT = config_keys.ROOT
BINARY = os.environ.get("RELAY_BINARY", os.path.join(ROOT, "build/outbox-relay"))


def stages():
    """[(name or None, base, [(instruction, rest), ...]), ...]"""
    with open(os.path.join(ROOT, "deploy/container/Containerfile"), encoding="utf-8") as file:
        lines = [line for line in file.read().splitlines() if line and not line.startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        instruction, rest = line.split(" ", 1)
        if instruction == "FROM":
            match = re.fullmatch(r"(\S+)(?: AS (\w+))?", rest)
            found.append((match.group(2), match.group(1), []))
        else:
            found[-1][2].append((instruction, rest))
    return found


def final(instruction):
    return [rest for name, rest in stages()[-1][2] if name == instruction]


def test_the_documented_container_has_time_to_drain():
    with open(os.path.join(ROOT, "docs/configuration.md"), encoding="utf-8") as file:
        text = file.read()
    drain = int(re.search(r"\| `drain_timeout`[^|]*\| `(\d+)s` \|", text).group(1))
    lines = re.findall(r"^docker run .*$", text, re.MULTILINE)
    assert lines and all(int(re.search(r"--stop-timeout (\d+)", line).group(1)) > drain for line in lines)


def test_instructions_are_known():
    known = {"ARG", "LABEL", "WORKDIR", "COPY", "RUN", "ENV", "EXPOSE", "USER", "ENTRYPOINT", "CMD"}
    assert {name for _, _, lines in stages() for name, _ in lines} <= known


def test_every_copied_file_is_there():
    copied = 0
    for _, _, lines in stages():
        for instruction, rest in lines:
            if instruction == "COPY" and not rest.startswith("--from="):
                for source in shlex.split(rest)[:-1]:
                    assert os.path.exists(os.path.join(ROOT, source)), source
                    copied += 1
    assert copied


def test_what_the_scripts_source_is_copied():
    copied = " ".join(rest for _, _, lines in stages() for name, rest in lines if name == "COPY")
    for script in ("scripts/setup", "scripts/fetch", "scripts/librdkafka-prefix"):
        with open(os.path.join(ROOT, script), encoding="utf-8") as file:
            for name in re.findall(r'^\. "\$here/(\S+)"', file.read(), re.M):
                assert f"scripts/{name}" in copied, f"{script} sources {name}"


def test_installed_files_are_those_that_the_image_takes():
    for source in final("COPY"):
        assert source.startswith("--from=build /image/usr/")
        assert all(path.startswith("/image/usr/") for path in source.split()[1:-1])
    with open(os.path.join(ROOT, "meson.build"), encoding="utf-8") as file:
        text = file.read()
    assert "install_subdir('schemas', install_dir: get_option('datadir') / 'outbox-relay')" in text
    assert [rest.split()[-1] for rest in final("COPY")] == ["/usr/bin/outbox-relay", "/usr/share/outbox-relay", "/usr/share/doc/outbox-relay/"]


def test_the_image_has_the_licences_of_what_is_in_the_program():
    copied = final("COPY")[-1].split()[1:-1]
    assert [path.rsplit("/", 1)[1] for path in copied] == ["LICENSE", "NOTICE", "LICENSES.librdkafka.txt"]
    assert "org.opencontainers.image.licenses=" in final("LABEL")[0]


def test_it_runs_as_nobody_and_listens_where_probes_reach_it():
    assert final("USER") == ["65532:65532"]
    assert final("ENTRYPOINT") == ['["/usr/bin/outbox-relay"]'] and final("CMD") == ['["run"]']
    assert final("ENV") == ["OUTBOX_RELAY_HTTP_LISTEN=:8000"] and final("EXPOSE") == ["8000"]
    assert not config_keys.unknown_variables(env.split("=")[0] for env in final("ENV"))


def test_every_library_is_installed():
    """Each library that the binary names comes from a package that the last stage installs (or from libc)."""
    if not os.path.exists(BINARY):
        pytest.fail(f"{BINARY} is not built")
    needed = re.findall(r"NEEDED\s+(\S+)", subprocess.run(["objdump", "-p", BINARY], capture_output=True, text=True, check=True).stdout)
    paths = dict(re.findall(r"(\S+) => (\S+)", subprocess.run(["ldd", BINARY], capture_output=True, text=True, check=True).stdout))
    installed = set(re.search(r"--no-install-recommends ([\w\-+. ]+)", " ".join(final("RUN"))).group(1).split())
    assert needed
    for library in needed:
        if library not in paths:  # the loader
            continue
        owners = subprocess.run(["dpkg", "-S", "*/" + library], capture_output=True, text=True, check=True).stdout
        packages = {line.split(":")[0] for line in owners.splitlines()}
        assert packages & (installed | {"libc6"}), f"{library} comes from {packages}"


def test_two_images_of_a_version_have_different_names():
    """A node that has a tag never looks whether another image has it now."""
    build = stages()[0][2]
    assert ("ARG", "BUILD_ID=") in build
    assert build.index(("ARG", "BUILD_ID=")) < [n for n, (_, rest) in enumerate(build) if '-Dbuild_id="$BUILD_ID"' in rest][0]
    assert "ARG" in dict(stages()[-1][2]) and 'org.opencontainers.image.revision="$BUILD_ID"' in final("LABEL")[0]
    for path in ("README.md", "docs/installation.md", "deploy/container/Containerfile"):
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            builds = re.findall(r"podman build [^`\n]*", file.read())
        assert builds and all(re.search(r"--build-arg BUILD_ID=\S+ .*-t \S*outbox-relay:0\.1\.0-\$id-\$day ", line) for line in builds), path
        assert all(re.search(r" --pull=always --no-cache ", line) for line in builds), f"{path}: cached layers have no security updates"


def test_only_public_bases_of_one_version():
    assert [base for _, base, _ in stages()] == ["debian:12-slim", "debian:12-slim"]
