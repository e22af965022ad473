#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the status page into a C header: the text, and a Content-Security-Policy that allows exactly its own style and script."""
import base64
import hashlib
import re
import sys


def hash_of(page, tag):
    found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    if len(found) != 1:
        sys.exit(f"the page must have exactly one <{tag}> element without attributes")
    return base64.b64encode(hashlib.sha256(found[0].encode()).digest()).decode()


def main(source, target):
    with open(source, encoding="utf-8") as file:
        page = file.read()
    policy = (f"default-src 'none'; script-src 'sha256-{hash_of(page, 'script')}'; style-src 'sha256-{hash_of(page, 'style')}'; "
              "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    lines = []
    for line in page.splitlines(keepends=True):
        text = line.encode().decode("latin-1").replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        text = "".join(c if " " <= c <= "~" else f"\\{ord(c):03o}" for c in text)
        lines.append(f'    "{text}"')
    with open(target, "w", encoding="ascii") as file:
        file.write("// Made by embed_page.py from status_page.html.\n")
        file.write(f'#define STATUS_PAGE_POLICY "{policy}"\n')
        file.write("static char status_page_html[] =\n" + "\n".join(lines) + ";\n")


main(*sys.argv[1:])
