# SPDX-License-Identifier: Apache-2.0
"""manual_page.py BINARY PAGE COMMANDS: every command and option that --help names is in the manual page, and the other way
round; each is in the document of the commands; mandoc, where there is one, finds no fault with the page."""
import re
import shutil
import subprocess
import sys


def output(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def options_of(text):
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", text))


def section_of(page, command):
    """What the page says of a command: its synopsis and its subsection."""
    synopsis = page.split(".Sh SYNOPSIS")[1].split(".Sh DESCRIPTION")[0]
    own = [part for part in synopsis.split(".Nm\n") if part.startswith(f".Cm {command}\n")]
    body = re.search(rf"^\.Ss {command}$(.*?)^\.S[sh] ", page, re.S | re.M)
    if not own or not body:
        return None
    return own[0] + body.group(1)


def main(binary, page_path, document_path):
    faults = []
    with open(page_path, encoding="utf-8") as file:
        page = file.read()
    with open(document_path, encoding="utf-8") as file:
        document = file.read()
    commands = re.findall(r"^  ([a-z-]+) {2,}\S", output(binary, "--help").split("usage")[1].split("\n\n")[2], re.M)
    if len(commands) < 6:
        faults.append(f"--help names only {commands}")
    for command in commands:
        told = options_of(output(binary, command, "--help")) - {"help", "version"}
        if not output(binary, command, "--version").startswith("outbox-relay "):
            faults.append(f"{command}: no --version")
        section = section_of(page, command)
        if section is None:
            faults.append(f"{command}: no synopsis or no section in the page")
            continue
        written = set(option.replace("\\-", "-") for option in re.findall(r"Fl \\-([a-z-]+)", section))
        for option in sorted(told - written):
            faults.append(f"{command}: --{option} is not in the page")
        for option in sorted(written - told):
            faults.append(f"{command}: --{option} is in the page only")
        if command != "run":
            chapter = re.search(rf"^## {command}$(.*?)(?=^## |\Z)", document, re.S | re.M)
            if not chapter:
                faults.append(f"{command}: no section in {document_path}")
            else:
                for option in sorted(told - options_of(chapter.group(1)) - {"config", "schemas"}):
                    faults.append(f"{command}: --{option} is not in {document_path}")
    if shutil.which("mandoc"):
        lint = subprocess.run(["mandoc", "-Tlint", "-Wwarning", page_path], capture_output=True, text=True, check=False)
        faults += lint.stdout.splitlines() + lint.stderr.splitlines()
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
