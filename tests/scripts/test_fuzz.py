# SPDX-License-Identifier: Apache-2.0
"""scripts/fuzz with a target of its own: what only UndefinedBehaviorSanitizer sees fails it."""
import os
import shutil
import subprocess

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
TARGET = """
#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    volatile int edge = EDGE;
    edge += size > 0 && data[0] > 0;
    return 0;
}
"""


@pytest.fixture
def project(tmp_path):
    """As much of a project as scripts/fuzz looks at. Its ninja finds the target built."""
    for folder in ("scripts", "bin", "results", "tests/fuzz/corpus/planted", "build-fuzz/tests/fuzz"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(os.path.join(ROOT, "scripts/fuzz"), tmp_path / "scripts")
    (tmp_path / "bin/ninja").write_text("#!/bin/sh\n")
    (tmp_path / "bin/ninja").chmod(0o755)
    (tmp_path / "build-fuzz/build.ninja").touch()
    (tmp_path / "tests/fuzz/fuzz_planted.c").write_text(TARGET)
    (tmp_path / "tests/fuzz/corpus/planted/one").write_text("x")
    return tmp_path


@pytest.mark.parametrize("edge, well", (("INT32_MAX", False), ("0", True)))
def test_undefined_behaviour_fails_a_target(project, edge, well):
    # As meson builds them with -Db_sanitize=address,undefined.
    subprocess.run(["clang", "-g", "-fsanitize=fuzzer,address,undefined", f"-DEDGE={edge}", "-o",
                    project / "build-fuzz/tests/fuzz/fuzz_planted", project / "tests/fuzz/fuzz_planted.c"], check=True, timeout=120)
    done = subprocess.run([project / "scripts/fuzz", "--seconds", "1"], capture_output=True, text=True, timeout=120, check=False,
                          env=dict(os.environ, PATH=f"{project / 'bin'}:{os.environ['PATH']}", TMPDIR=str(project / "results")))
    assert (done.returncode == 0) == well, done.stdout + done.stderr
    assert done.stdout.endswith(f"fuzz: {int(well)} passed, {int(not well)} failed\n")
    assert ("signed integer overflow" in done.stdout) == (not well)
    assert bool(list((project / "results").glob("*/planted-crash-*"))) == (not well)
