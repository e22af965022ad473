# SPDX-License-Identifier: Apache-2.0
"""The JVM of Kafka's nodes.

One node alone is measured by scripts/bench, so it runs as Kafka's own script would run it. Short-lived clusters, those of tests,
want little CPU instead: their JVM compiles lightly (the second compiler does not pay in minutes), and finds Kafka's classes read
and checked in an archive: 2.5 s of CPU until a node answers instead of 7. The archive is made once for each JVM and kept beside
the jars; where there is none, a start takes longer.
"""

import contextlib
import hashlib
import os
import shutil
import time

# What Kafka's own bin/kafka-server-start.sh gives a broker: with less of a heap the JVM stops for 10 ms and more each second.
STOCK = ["-Xms1G", "-Xmx1G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
         "-XX:+ExplicitGCInvokesConcurrent", "-XX:MaxInlineLevel=15"]
SHORT_LIVED = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
ABANDONED = 300  # seconds after which an archive that is still being made is somebody's who is gone


def command(jars, nodes, short_lived, *arguments, archive_at_exit=None):
    """A JVM on Kafka's jars; warnings and errors go to the log with their time."""
    options = SHORT_LIVED if short_lived else STOCK if nodes == 1 else ["-Xmx512m"]
    if archive_at_exit:
        options = [*options, "-XX:ArchiveClassesAtExit=" + archive_at_exit]
    elif short_lived and os.path.exists(archive(jars)):
        options = [*options, "-XX:SharedArchiveFile=" + archive(jars)]
    return ["java", *options, "-XX:-UsePerfData", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS", "-cp", os.path.join(jars, "*"), *arguments]


def archive(jars):
    """Where the archive of this JVM is or would be: another JVM has another name."""
    java = os.path.realpath(shutil.which("java"))
    modules = os.stat(os.path.join(os.path.dirname(java), "..", "lib", "modules"))
    digest = hashlib.sha256(f"{java} {modules.st_size} {modules.st_mtime_ns}".encode()).hexdigest()
    return os.path.join(os.path.dirname(jars), f"classes-{digest[:16]}.jsa")


def make_archive(jars, run_once):
    """Makes it, unless it is there, is just being made, or cannot be kept. run_once(folder, file): a node that comes up and ends
    in this folder, with archive_at_exit=file."""
    making = archive(jars) + ".making"
    if os.path.exists(archive(jars)):
        return
    with contextlib.suppress(OSError):
        if time.time() - os.stat(making).st_mtime > ABANDONED:
            shutil.rmtree(making)
    try:
        os.mkdir(making)
    except OSError:
        return
    try:
        made = os.path.join(making, "classes.jsa")
        run_once(making, made)
        if os.path.exists(made):
            os.rename(made, archive(jars))
    finally:
        shutil.rmtree(making, ignore_errors=True)
