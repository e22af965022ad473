# SPDX-License-Identifier: Apache-2.0
"""What the tests of `check` share: a run with the configuration of a place, and its findings."""
import json
import os

from relaytools.relay import command, write_config


def run(place, *arguments, **changes):
    config = write_config(os.path.join(place.folder, "check.ini"), place.sections(**changes))
    return command("check", *arguments, config=config, binary=place.binary)


def findings(place, level=None, **changes):
    """(exit code, [text of the findings of this level]): "what: text; to do"."""
    result = run(place, "--json", **changes)
    found = json.loads(result.stdout)
    texts = [f"{one['what']}: {one['text']}; {one['to_do']}" for one in found["checks"] if level in (None, one["level"])]
    return result.returncode, texts


def fails(place, words, **changes):
    code, texts = findings(place, "FAIL", **changes)
    assert code == 1 and any(words in text for text in texts), texts
    return texts


def warns(place, words, **changes):
    code, texts = findings(place, "warn", **changes)
    assert any(words in text for text in texts), texts
    return code
