# SPDX-License-Identifier: Apache-2.0
"""What the tests of migrate have in common: the command, schemas of a test's own, and what status prints."""
import os
import shutil

from relaytools.relay import command, write_config
from relaytools.servers import ROOT


def config_of(place, **changes):
    return write_config(os.path.join(place.folder, "migrate-test.ini"), place.sections(**changes))


def run(place, *arguments, **changes):
    return command("migrate", *arguments, config=config_of(place, **changes), binary=place.binary)


def own_schemas(place, **files):
    """A copy of the schemas with further files: name -> text."""
    folder = os.path.join(place.folder, "schemas")
    if not os.path.isdir(folder):
        shutil.copytree(os.path.join(ROOT, "schemas"), folder)
    for name, text in files.items():
        with open(os.path.join(folder, "postgres", name.replace("__", ".") + ".sql"), "w", encoding="utf-8") as file:
            file.write(text)
    return folder


def states(text):
    return [line.split()[0] for line in text.splitlines()[1:]]
