# SPDX-License-Identifier: Apache-2.0
"""The files of the project: what git knows or would take in; without git, what is in the folder."""
import fnmatch
import os
import subprocess

SKIPPED_FOLDERS = ("build", ".git", ".cache", ".venv", "__pycache__")


class Tree:
    def __init__(self, root):
        self.root = root
        self.warnings = []  # of the check that runs: told, but not counted
        self.files = sorted(path for path in self._listed() if os.path.isfile(os.path.join(root, path)))
        self._texts = {}

    def _listed(self):
        listed = subprocess.run(["git", "-C", self.root, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                                capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return set(filter(None, listed.stdout.split("\0")))
        found = []
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(SKIPPED_FOLDERS)]
            found += [os.path.relpath(os.path.join(folder, name), self.root) for name in names]
        return set(found)

    def match(self, *patterns):
        """The files whose path matches one of the patterns (* crosses folders)."""
        return [path for path in self.files if any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)]

    def text(self, path):
        """The file's text, or None where it is not UTF-8 text."""
        if path not in self._texts:
            try:
                with open(os.path.join(self.root, path), encoding="utf-8", newline="") as file:
                    text = file.read()
                self._texts[path] = None if "\0" in text else text
            except UnicodeDecodeError:
                self._texts[path] = None
        return self._texts[path]

    def forget(self):
        """The files were changed."""
        self._texts.clear()

    def lines(self, path):
        return (self.text(path) or "").split("\n")

    def c_files(self):
        return self.match("*.c", "*.h", "*.cc")

    def first_line(self, path):
        return self.lines(path)[0]
