# SPDX-License-Identifier: Apache-2.0
"""scripts/services, by the shell script beside this file."""
import os
import subprocess


def test_services():
    script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "test_services.sh")
    done = subprocess.run([script], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("ok: services\n")
