# SPDX-License-Identifier: Apache-2.0
"""Checks of the C and C++ sources."""
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import subprocess
import textwrap

COLUMNS = 120
FILE_LINES, FILE_LINES_AIM = 700, 600
FUNCTION_LINES, FUNCTION_LINES_AIM = 100, 60

# A header without a .c of its own: types and macros only.
HEADER_ONLY = {"include/relay/config/context.h", "include/relay/publish/outbox_row.h"}

# What each room may include. lifecycle and main stand above all.
ROOMS = {
    "base": set(),
    "config": {"base", "json"},  # and PURE
    "kafka": {"base", "config"},
    "postgres": {"base", "config"},
    "clickhouse": {"base", "config"},
    "json": {"base"},
    "ops": {"base", "config", "postgres", "kafka"},
    "publish": {"base", "config", "json", "kafka", "postgres"},
    "insert": {"base", "clickhouse", "config", "json", "kafka"},
    "cli": None,
    "lifecycle": None,
}

# Notations that the configuration checks while it is read: texts in, verdicts out, nothing of a room behind them.
PURE = (
    "relay/publish/event_router.h",
    "relay/publish/event_template.h",
)
# What starts and stops every part.
ABOVE_ALL = {"relay/ops/lifecycle.c", "relay/main.c"}
# Sources whose functions are declared in a header of their family, and that header.
FAMILIES = ("relay/cli/",)
FAMILY_HEADERS = ("cli/",)

# Call, what to do instead, files that may (fnmatch of the path).
CALLS = [
    (r"\b(?:atoi|atol|atof)\s*\(", "says nothing about mistakes; strtol and friends", ()),
    (r"(?<![a-z_])(?:strcpy|strcat|sprintf|vsprintf|gets)\s*\(", "knows no room; snprintf, memcpy", ("tests/",)),
    (r"(?<![a-z_])_?exit\s*\(", "only main.c ends the process", ("relay/main.c", "relay/base/test_points.c", "tests/", "scripts/")),
    (r"(?<![a-z_])(?:sleep|usleep|nanosleep)\s*\(", "waits nobody can end; stop_wait or the injected clock",
     ("relay/base/clock.c", "tests/")),
    (r"\b(?:setjmp|longjmp)\s*\(", "errors are returned", ()),
    (r"(?<![a-z_])(?:gmtime|localtime|strtok|asctime|ctime)\s*\(", "shares a buffer between threads; the _r form", ("tests/",)),
    (r"\bcr_skip\w*\s*\(", "to meson its executable has passed; an assertion that says what is missing", ()),
]


def _parallel(function, items):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        return list(pool.map(function, items))


def check_format(tree):
    def judge(path):
        done = subprocess.run(["clang-format", "--dry-run", "-Werror", path], capture_output=True, text=True, check=False)
        first = next((line for line in done.stderr.splitlines() if ": error:" in line), "")
        return (first or f"{path}: {done.stderr.strip()[:200]}") if done.returncode else None
    return [finding for finding in _parallel(judge, tree.c_files()) if finding]


def fix_format(tree):
    for path in tree.c_files():
        text = tree.text(path)
        wrapped = _wrap_comments(text)
        if wrapped != text:
            with open(path, "w", encoding="utf-8") as file:
                file.write(wrapped)
    subprocess.run(["clang-format", "-i", *tree.c_files()], check=True)
    tree.forget()


def _wrap_comments(text):
    """Paragraphs of // lines in which a line is too long, filled anew. Indented lines and lists stay as they are."""
    done, block = [], []

    def finish():
        if any(len(line) > COLUMNS for line in block) and not any("clang-format" in line for line in block):
            indent = re.match(r"( *)//", block[0]).group(1)
            words = " ".join(line.strip()[2:].strip() for line in block)
            done.extend(textwrap.wrap(words, COLUMNS, initial_indent=indent + "// ", subsequent_indent=indent + "// ",
                                      break_long_words=False, break_on_hyphens=False))
        else:
            done.extend(block)
        block.clear()

    for line in text.split("\n"):
        # A line of prose goes on the paragraph before it if both stand at the same place.
        prose = re.match(r"( *)// (?! |[-*\d] |[-*] |SPDX)\S", line)
        if not prose or (block and not block[0].startswith(prose.group(1) + "//")):
            finish()
        if prose:
            block.append(line)
        else:
            done.append(line)
    finish()
    return "\n".join(done)


def check_columns(tree):
    findings = []
    for path in tree.c_files():
        for number, line in enumerate(tree.lines(path), 1):
            # A long string is better whole: it can be searched for.
            if len(line) > COLUMNS and not re.search(r'"[^"]{50,}"|"(?:[^"\\]|\\.){50,}"', line):
                findings.append(f"{path}:{number}: {len(line)} columns")
    return findings


def check_tidy(tree):
    build = _configured_build()
    if build is None:
        return ["there is no build folder and meson could not make one: meson setup build"]
    with open(os.path.join(build, "compile_commands.json"), encoding="utf-8") as file:
        commands = {os.path.relpath(os.path.realpath(os.path.join(entry["directory"], entry["file"])), tree.root): entry["command"]
                    for entry in json.load(file)}
    version = subprocess.run(["clang-tidy", "--version"], capture_output=True, text=True, check=True).stdout
    cache = os.path.join(_cache(), "clang-tidy")
    os.makedirs(cache, exist_ok=True)
    # As clang-tidy itself takes them: the nearest, which says whether it adds to those above it.
    settings = {folder: "".join(tree.text(path) for path in tree.match(".clang-tidy", f"{folder}/.clang-tidy"))
                for folder in ("relay", "tests")}
    pins = tree.text("scripts/pins")

    def judge(path):
        known_by = [version, settings[path.split("/")[0]], pins, *words_that_matter(commands[path])]
        digest = hashlib.sha256("\0".join(known_by).encode())
        for part in sorted(_with_includes(tree, path)):
            digest.update(f"{part}\0{tree.text(part)}".encode())
        known = os.path.join(cache, digest.hexdigest())
        if os.path.exists(known):
            return []
        done = subprocess.run(["clang-tidy", "-p", build, "--quiet", path], capture_output=True, text=True, check=False)
        # Paths as somebody at the root of the project sees them.
        lines = [re.sub(r"^\S*?\.\./", "", line) for line in done.stdout.splitlines()]
        findings = [line for line in lines if re.search(r": (?:error|warning):", line)]
        if done.returncode and not findings:
            findings = [f"{path}: clang-tidy ended with {done.returncode}: {done.stderr.strip()[-300:]}"]
        if not findings:
            with open(known, "w", encoding="utf-8"):
                pass
        return findings

    sources = tree.match("relay/*.c", "relay/*.cc", "tests/*.c")
    tree.warnings += [f"{path}: not judged, since no target of {build} is made of it" for path in sources if path not in commands]
    wanted = [path for path in sources if path in commands]
    wanted.sort(key=lambda path: -len(tree.text(path))) # the longest first, so that all cores end together
    # The same header is read by many files: each finding once.
    return list(dict.fromkeys(finding for findings in _parallel(judge, wanted) for finding in findings))


def words_that_matter(command):
    """Of a compiler's command line: not its own name, nor files and folders of this machine, for which the pins stand. A verdict is
    of use to another clone, with another home and with ccache or without."""
    words = iter(shlex.split(command))
    for word in words:
        if word in ("-isystem", "-o", "-MQ", "-MF"):
            next(words, None)
        elif word.startswith("-") and word != "-MD":
            yield word


def _cache():
    """As in scripts/lib/common.sh: so that a fresh clone need not judge again what was judged clean."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.environ.get("HOME", "/root"), ".cache")
    return os.environ.get("OUTBOX_RELAY_CACHE") or os.path.join(home, "outbox-relay")


def _configured_build():
    if not os.path.exists("build/compile_commands.json"):
        done = subprocess.run(["meson", "setup", "build"], stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return None
    # Headers that the build makes, which sources include.
    targets = subprocess.run(["ninja", "-C", "build", "-t", "targets", "all"], capture_output=True, text=True, check=False).stdout
    made = re.findall(r"^(\S+\.h): CUSTOM_COMMAND", targets, re.M)
    done = subprocess.run(["ninja", "-C", "build", *made], stdout=subprocess.DEVNULL, check=False) if made else None
    return None if done and done.returncode else "build"


def _with_includes(tree, path, seen=None):
    seen = set() if seen is None else seen
    if path in seen:
        return seen
    seen.add(path)
    for name in re.findall(r'^\s*#\s*include\s+"([^"]+)"', tree.text(path) or "", re.M):
        for candidate in ("include/" + name, os.path.normpath(os.path.join(os.path.dirname(path), name)), "tests/support/" + name):
            if candidate in tree.files:
                _with_includes(tree, candidate, seen)
                break
    return seen


def check_pairs(tree):
    sources = {re.sub(r"\.cc?$", "", path[len("relay/"):]) for path in tree.match("relay/*.c", "relay/*.cc")} - {"main"}
    headers = {path[len("include/relay/"):-2] for path in tree.match("include/relay/*.h")}
    own = {path[len("relay/"):-2] for path in tree.match("relay/*.h")}  # headers that only one room reads
    findings = [f"relay/{name}.c has no include/relay/{name}.h" for name in sorted(sources - headers - own)
                if not f"relay/{name}".startswith(FAMILIES)]
    for name in sorted(name for name in headers - sources if not name.startswith(FAMILY_HEADERS)):
        path = f"include/relay/{name}.h"
        if path not in HEADER_ONLY and _declares_functions(tree.text(path)):
            findings.append(f"{path} declares functions but there is no relay/{name}.c")
    return findings


def _declares_functions(text):
    text = re.sub(r"//.*|/\*.*?\*/", "", text)
    return any(not line.startswith(("typedef", "static", "#")) and re.match(r"[a-z][\w \*]*\b\w+\(", line)
               for line in text.split("\n"))


def check_headers(tree):
    findings = []
    for path in tree.match("include/relay/*.h", "relay/*.h", "tests/support/*.h"):
        text = tree.text(path)
        name = path.split("include/", 1)[-1]
        guard = re.sub(r"[^A-Za-z0-9]", "_", name[len("tests/support/"):] if name.startswith("tests/") else name).upper()
        match = re.search(r"^#ifndef (\w+)\n#define (\w+)\n", text, re.M)
        if not match or match.group(1) != match.group(2):
            findings.append(f"{path}: no include guard")
        elif path.startswith("include/") and match.group(1) != guard:
            findings.append(f"{path}: the include guard is {match.group(1)}, expected {guard}")
        comment = re.match(r"// SPDX[^\n]*\n(?://\n)?//\s*\S", text)
        if not comment:
            findings.append(f"{path}: does not open with a paragraph about what it does")
    return findings


def check_rooms(tree):
    findings = []
    for path in tree.match("relay/*", "include/relay/*"):
        if path in ABOVE_ALL:
            continue
        parts = path.split("include/", 1)[-1].split("/")
        if len(parts) < 3 or parts[1] not in ROOMS or ROOMS[parts[1]] is None:
            if len(parts) >= 3 and parts[1] not in ROOMS:
                findings.append(f"{path}: the room {parts[1]} is not in scripts/lib/lint/c_code.py")
            continue
        allowed = ROOMS[parts[1]] | {parts[1]}
        for number, line in enumerate(tree.lines(path), 1):
            match = re.match(r'\s*#\s*include "(relay/([a-z_]+)/[^"]*)"', line)
            pure = match and parts[1] == "config" and match.group(1) in PURE
            if match and match.group(2) not in allowed and not pure:
                findings.append(f"{path}:{number}: {parts[1]}/ must not include {match.group(2)}/")
    return findings


def _without_comments_and_strings(text):
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    return pattern.sub(lambda match: "\n" * match.group().count("\n") + ('""' if match.group()[0] == '"' else ""), text)


# A definition as clang-format lays it out: its name, at the start of a line; static ones are nobody else's.
DEFINITION = re.compile(r"^(?!static\b|typedef\b|#)[a-zA-Z_][\w \*]*?\b(\w+)\([^;{}]*\)\n\{", re.M)


def _calls_between(tree):
    """{source: {source that defines a function it names: that name}}"""
    sources = {path: _without_comments_and_strings(tree.text(path)) for path in tree.match("relay/*.c", "relay/*.cc")}
    defined = {name: path for path, code in sources.items() for name in DEFINITION.findall(code)}
    return {path: {defined[name]: name for name in sorted(set(re.findall(r"\b\w+(?=\s*[(),;}])", code)))
                   if defined.get(name, path) != path} for path, code in sources.items()}


def check_circles(tree):
    calls, findings, done = _calls_between(tree), [], set()

    def follow(path, way):
        if path in way:
            circle = way[way.index(path):] + [path]
            findings.append("; ".join(f"{one} needs {other} ({calls[one][other]})" for one, other in zip(circle, circle[1:])))
        elif path not in done:
            for other in calls[path]:
                follow(other, [*way, path])
            done.add(path)
    for path in sorted(calls):
        follow(path, [])
    return findings


def check_calls(tree):
    findings = []
    for path in tree.c_files():
        code = _without_comments_and_strings(tree.text(path))
        for pattern, reason, may in CALLS:
            if path.startswith(tuple(may)):
                continue
            for match in re.finditer(pattern, code):
                findings.append(f"{path}:{code.count(chr(10), 0, match.start()) + 1}: {match.group().strip('( ')}: {reason}")
    return findings


def check_built(tree):
    lists = {os.path.dirname(path): tree.text(path) for path in tree.match("meson.build", "*/meson.build")}
    findings = []
    for path in tree.match("relay/*.c", "relay/*.cc", "tests/*.c"):
        folder, name = os.path.split(path)
        key = re.sub(r"^(?:test|fuzz)_|\.cc?$", "", name)
        # A program is listed beside its source: a unit test and a fuzz target may have the same name.
        listed = lists[folder] if folder.startswith("tests/") and folder in lists else "".join(lists.values())
        if name not in listed and f"'{key}'" not in listed:
            findings.append(f"{path} is in no meson.build")
    return findings


def check_length(tree):
    findings = []
    for path in tree.match("*.c", "*.h", "*.cc", "*.py", "*.sh", "scripts/*"):
        lines = tree.lines(path)
        if path.endswith((".txt", ".sha256")):
            continue
        if len(lines) > FILE_LINES:
            findings.append(f"{path}: {len(lines)} lines: it has two jobs")
        elif len(lines) > FILE_LINES_AIM:
            tree.warnings.append(f"{path}: {len(lines)} lines")
        if path.endswith((".c", ".cc")):
            _judge_functions(tree, path, lines, findings)
    return findings


def _judge_functions(tree, path, lines, findings):
    opened = None
    for number, line in enumerate(lines, 1):
        if line == "{":
            opened = number
        elif line == "}" and opened is not None:
            length = number - opened + 1
            if length > FUNCTION_LINES:
                findings.append(f"{path}:{opened}: a function of {length} lines")
            elif length > FUNCTION_LINES_AIM:
                tree.warnings.append(f"{path}:{opened}: a function of {length} lines")
            opened = None
