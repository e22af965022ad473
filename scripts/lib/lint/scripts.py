# SPDX-License-Identifier: Apache-2.0
"""Checks of the shell and Python scripts."""
import ast
import os
import re
import subprocess


def shell_files(tree):
    return [path for path in tree.files if path.endswith((".sh", ".bash")) or re.match(r"#!.*\b(?:ba)?sh\b", tree.first_line(path))]


def python_files(tree):
    return [path for path in tree.files if path.endswith(".py") or re.match(r"#!.*\bpython3?\b", tree.first_line(path))]


def check_shell(tree):
    files = shell_files(tree)
    sourced = [path for path in files if not tree.first_line(path).startswith("#!")]
    findings = []
    # What is sourced uses names that the script which sources it has set (SC2154).
    for options, paths in (([], [path for path in files if path not in sourced]), (["-s", "bash", "-e", "SC2154"], sourced)):
        done = subprocess.run(["shellcheck", "-x", "-f", "gcc", *options, *paths], capture_output=True, text=True, check=False)
        findings += (done.stdout + done.stderr).splitlines() if done.returncode else []
    return findings


def check_python(tree):
    findings = []
    for path in python_files(tree):
        try:
            ast.parse(tree.text(path), path)
        except SyntaxError as error:
            findings.append(f"{path}:{error.lineno}: {error.msg}")
    if subprocess.run(["/usr/bin/python3", "-c", "import pyflakes"], capture_output=True, check=False).returncode:
        tree.warnings.append("pyflakes is not installed (python3-pyflakes): only compiled")
        return findings
    done = subprocess.run(["/usr/bin/python3", "-m", "pyflakes", *python_files(tree)], capture_output=True, text=True, check=False)
    findings += [line for line in (done.stdout + done.stderr).splitlines()
                 if not _excused(tree, line)] if done.returncode else []
    return findings


def _excused(tree, finding):
    """An import that its line marks with noqa: pytest takes fixtures by name."""
    match = re.match(r"([^:]+):(\d+):", finding)
    return bool(match) and "noqa" in tree.lines(match.group(1))[int(match.group(2)) - 1]


def check_modes(tree):
    findings = []
    for path in tree.files:
        starts, may = tree.first_line(path).startswith("#!"), os.access(path, os.X_OK)
        if may and not starts:
            findings.append(f"{path}: may be executed but does not start with #!")
        elif starts and not may:
            findings.append(f"{path}: starts with #! but may not be executed")
    return findings
