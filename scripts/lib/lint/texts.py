# SPDX-License-Identifier: Apache-2.0
"""Checks of every text file."""
import json
import re
import subprocess
import xml.etree.ElementTree

SOURCES = ("*.c", "*.h", "*.cc", "*.py", "*.sh", "*.bash", "*.sql", "*.yaml", "*.yml", "*.md", "*.ini", "*meson.build", "*.service", "*.1")
# What is written to be read by a machine in exactly this form.
VERBATIM = ("tests/fuzz/corpus/*", "LICENSE", "*.svg", "*.png")

WORDS = [
    (r"(?<![\w$}.])/(?:work|root|home/\w+)/", "a path of one machine"),
    (r"\b(?:registry\.npmjs\.org|repo1?\.maven(?:\.apache)?\.org|deb\.debian\.org|pypi\.org|files\.pythonhosted\.org|proxy\.golang\.org)",
     "a registry's host: its client knows it"),
    (r"\b(?:TODO|FIXME|XXX|HACK)\b", "a note to oneself: do it or say it in words"),
    (r"\.\./shared|\barchitecture\.md|\bcontract\.md|\bfacts/\w+", "a document that is not in this project"),
]


def check_licence(tree):
    verbatim = set(tree.match(*VERBATIM))
    wanted = [path for path in tree.match(*SOURCES, "scripts/*") if path not in verbatim]
    wanted += [path for path in tree.files if path not in wanted and tree.first_line(path).startswith("#!")]
    return [f"{path}: no SPDX-License-Identifier in its first lines" for path in wanted
            if tree.text(path) and not path.endswith((".sha256", "/requirements.txt"))
            and "SPDX-License-Identifier: Apache-2.0" not in "\n".join(tree.lines(path)[:4])]


def check_whitespace(tree):
    verbatim, findings = set(tree.match(*VERBATIM)), []
    for path in tree.files:
        text = tree.text(path)
        if not text or path in verbatim:
            continue
        if not text.endswith("\n") or text.endswith("\n\n"):
            findings.append(f"{path}: does not end with one newline")
        for number, line in enumerate(text.split("\n"), 1):
            if line != line.rstrip():
                findings.append(f"{path}:{number}: blanks or a carriage return at the end of the line")
            elif "\t" in line and path.endswith((".c", ".h", ".cc", ".py", ".md", ".sql", ".yaml", ".build")):
                findings.append(f"{path}:{number}: a tab")
    return findings


def check_words(tree):
    findings = []
    for path in tree.files:
        if path.startswith("scripts/lib/lint/") or path.endswith(".sha256"):
            continue
        for number, line in enumerate(tree.lines(path), 1):
            for pattern, reason in WORDS:
                match = re.search(pattern, line)
                if match:
                    findings.append(f"{path}:{number}: {match.group()}: {reason}")
    return findings


def check_data(tree):
    findings = []
    corpus = set(tree.match("tests/fuzz/*"))
    for path in tree.match("*.json", "*.svg", "*.xml", "*.yaml", "*.yml"):
        if path in corpus:
            continue
        try:
            if path.endswith(".json"):
                json.loads(tree.text(path))
            elif path.endswith((".svg", ".xml")):
                xml.etree.ElementTree.fromstring(tree.text(path))
            else:
                _read_yaml(tree.text(path))
        except Exception as error:  # whatever the reader of that format throws
            findings.append(f"{path}: {' '.join(str(error).split())}")
    return findings


def _read_yaml(text):
    program = "import sys, yaml; list(yaml.safe_load_all(sys.stdin))"
    done = subprocess.run(["/usr/bin/python3", "-c", program], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr.strip().splitlines()[-1])
