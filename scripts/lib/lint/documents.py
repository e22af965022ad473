# SPDX-License-Identifier: Apache-2.0
"""Checks of the documents."""
import os
import re
import subprocess

# Paths in backticks that begin with one of these are taken for files of the project.
ROOMS = ("relay/", "include/relay/", "schemas/", "deploy/", "tests/", "docs/", "scripts/")


def check_links(tree):
    findings = []
    for path in tree.match("*.md"):
        text = re.sub(r"^```.*?^```", lambda match: "\n" * match.group().count("\n"), tree.text(path), flags=re.M | re.S)
        for number, line in enumerate(text.split("\n"), 1):
            for target in re.findall(r"\]\(([^)\s]+)\)", line) + re.findall(r'(?:src|href)="([^"]+)"', line):
                problem = _problem(tree, path, target)
                if problem:
                    findings.append(f"{path}:{number}: {target}: {problem}")
            for target in re.findall(r"`([\w./-]+)`", line):
                if target.startswith(ROOMS) and not _exists(tree, target):
                    findings.append(f"{path}:{number}: {target}: there is no such file")
    return findings


def check_listed(tree):
    linked = set(re.findall(r"\]\(([^)#\s]+)", tree.text("README.md")))
    documents = [path for path in tree.match("docs/*.md", "docs/*.1") if os.path.dirname(path) == "docs"]
    return [f"README.md does not link {path}" for path in documents if path not in linked]


def _exists(tree, path):
    return os.path.exists(os.path.join(tree.root, path)) or any(name.startswith(path + ".") for name in tree.files)


def _problem(tree, path, target):
    if re.match(r"[a-z]+:", target):
        return None
    file, _, anchor = target.partition("#")
    where = os.path.normpath(os.path.join(os.path.dirname(path), file)) if file else path
    if not os.path.exists(os.path.join(tree.root, where)):
        return "there is no such file"
    if anchor and where.endswith(".md") and anchor not in _anchors(tree.text(where)):
        return "there is no such heading"
    return None


def _anchors(text):
    text = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    headings = re.findall(r"^#+ +(.*?)\s*$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def check_manual(tree):
    findings = []
    for path in tree.match("docs/*.1"):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", path], capture_output=True, text=True, check=False)
        findings += (done.stdout + done.stderr).splitlines() if done.returncode else []
    return findings
