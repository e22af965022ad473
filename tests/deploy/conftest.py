# SPDX-License-Identifier: Apache-2.0
"""What several tests of this folder use."""
import os
import shutil
import subprocess

import pytest

import config_keys

ROOT = config_keys.ROOT
BUILD = os.environ.get("RELAY_BUILD", os.path.join(ROOT, "build"))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The folder of a prefix /usr that was installed into a DESTDIR of its own."""
    work = tmp_path_factory.mktemp("install")
    subprocess.run(["meson", "setup", "--prefix=/usr", "-Dtests=false", str(work / "build"), ROOT], check=True, capture_output=True)
    shutil.copy(os.path.join(BUILD, "outbox-relay"), work / "outbox-relay")
    # Compiling everything once more shows nothing: only what is generated is made, and the binary is the one of the build.
    subprocess.run(["ninja", "-C", str(work / "build"), "deploy/outbox-relay.service", "outbox-relay.1"], check=True, capture_output=True)
    shutil.copy(work / "outbox-relay", work / "build/outbox-relay")
    done = subprocess.run(["meson", "install", "-C", str(work / "build"), "--no-rebuild"], capture_output=True, text=True,
                          check=False, env=dict(os.environ, DESTDIR=str(work / "image")))
    assert done.returncode == 0, done.stdout + done.stderr
    return work / "image/usr"
