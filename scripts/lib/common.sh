# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share: where the cache is, one line of progress per step, long commands into a log that is named and
# quoted when they fail, building. Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=scripts/pins
. "$root/scripts/pins"

# Everything downloaded or built once lives here; OUTBOX_RELAY_CACHE moves it.
cache=${OUTBOX_RELAY_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/outbox-relay}

# All progress goes to stderr, so that stdout stays for what a script answers (a path).
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# quietly SECONDS WHAT COMMAND...: run it under a deadline with its output in $cache/log/WHAT.log; on failure
# name the log and show its end. --foreground, so that Ctrl-C reaches the command. A sudo in front of it is in front of
# the deadline as well: what runs as root takes no signal from an ordinary user.
quietly() {
    local seconds=$1 what=$2 log status=0 as=()
    shift 2
    if [ "$1" = sudo ]; then
        as=(sudo)
        shift
    fi
    mkdir -p "$cache/log"
    log="$cache/log/$what.log"
    "${as[@]}" timeout --foreground --kill-after=10 "$seconds" "$@" >"$log" 2>&1 </dev/null || status=$?
    [ "$status" -eq 0 ] && return 0
    tail -n 15 "$log" | sed 's/^/    | /' >&2
    if [ "$status" -eq 124 ]; then
        say "$what did not end within $seconds s; its output is in $log"
    else
        say "$what failed (exit $status); its whole output is in $log"
    fi
    return 1
}

# verify ALGORITHM SUM FILE: the file's checksum is the pinned one, or an explanation.
verify() {
    local algorithm=$1 expected=$2 file=$3 actual
    actual=$("${algorithm}sum" "$file" | cut -d' ' -f1)
    [ "$actual" = "$expected" ] && return 0
    say "${file##*/} is not what scripts/pins expects ($algorithm $actual instead of $expected); it was not used. Try again; if it stays so, the registry serves something else than what was pinned."
    return 1
}

# build_targets FOLDER [TARGET...]: all of them without any. What the compiler says against them is shown, and nothing else.
build_targets() {
    local said
    said=$(ninja -C "$@" 2>&1) || { grep -E 'error|FAILED|fatal' -A 5 <<<"$said" | head -n 60 >&2; return 1; }
}

# build_daemon FOLDER [ARGUMENT OF MESON SETUP...]
build_daemon() {
    configure "$@" && build_targets "$1" outbox-relay
}

# configure FOLDER [ARGUMENT OF MESON SETUP...]: unless it is.
configure() {
    local said
    [ -f "$1/build.ninja" ] || said=$(meson setup "$@" 2>&1) || { tail -n 30 <<<"$said" >&2; return 1; }
}
