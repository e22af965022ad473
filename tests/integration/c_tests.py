# SPDX-License-Identifier: Apache-2.0
"""Programs in C that test against the real servers: scripts/test builds them, and so does `ninja -C build`."""
import os
import subprocess

from relaytools.servers import ROOT


def built(name):
    """The path of what meson.build makes of that name, which lies beside the daemon's build."""
    build = os.path.dirname(os.environ.get("RELAY_BINARY") or os.path.join(ROOT, "build/outbox-relay"))
    path = os.path.join(build, "tests/integration", name)
    assert os.access(path, os.X_OK), f"{path} is not there: ninja -C {build} tests/integration/{name}"
    return path


def run_c_tests(name, environment, seconds=300):
    """Runs the program of that name. All of its tests must pass, and there must be some."""
    program = built(name)
    result = subprocess.run([program], env=dict(os.environ, **environment), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                            timeout=seconds)
    assert result.returncode == 0, result.stdout
    assert "Failing: 0" in result.stdout and "Passing: 0" not in result.stdout, result.stdout
