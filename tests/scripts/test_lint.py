# SPDX-License-Identifier: Apache-2.0
"""What scripts/lint has to see, shown by a project in which it is so."""
import os
import sys

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "..", ".."))
sys.path.insert(0, os.path.join(ROOT, "scripts/lib"))

from lint import c_code, documents  # noqa: E402
from lint.tree import Tree  # noqa: E402


class Changed(Tree):
    """This project, but for one file."""

    def __init__(self, path, old, new):
        super().__init__(ROOT)
        assert self.text(path).count(old) == 1
        self._texts[path] = self.text(path).replace(old, new)


@pytest.mark.parametrize("listed, entry, source", (
    ("tests/unit/meson.build", "  'receipt': [],\n", "tests/unit/test_receipt.c"),
    ("tests/fuzz/meson.build", "'receipt', ", "tests/fuzz/fuzz_receipt.c"),
    ("tests/fault/meson.build", "'kafka_cluster', ", "tests/fault/test_kafka_cluster.c")))
def test_a_program_that_is_built_no_longer_is_told(listed, entry, source):
    assert c_code.check_built(Tree(ROOT)) == []
    assert c_code.check_built(Changed(listed, entry, "")) == [f"{source} is in no meson.build"]


def test_sources_that_need_each_other_are_told():
    assert c_code.check_circles(Tree(ROOT)) == []
    tree = Changed("relay/base/clock.c", '#include "relay/base/clock.h"\n', '#include "relay/base/clock.h"\n\nvoid use(void)\n{\n    stop_raised(0);\n}\n')
    assert c_code.check_circles(tree) == ["relay/base/clock.c needs relay/base/stop.c (stop_raised); relay/base/stop.c needs relay/base/clock.c (mono_left)"]


def test_a_unit_test_that_skips_itself_is_told():
    assert c_code.check_calls(Tree(ROOT)) == []
    told, = c_code.check_calls(Changed("tests/unit/test_stop.c", "_for_ever)\n{\n", '_for_ever)\n{\n    cr_skip_test("why");\n'))
    assert told.startswith("tests/unit/test_stop.c:") and ": cr_skip_test: " in told


def test_a_document_that_readme_does_not_link_is_told():
    assert documents.check_listed(Tree(ROOT)) == []
    assert documents.check_listed(Changed("README.md", "](docs/metrics.md)", "](docs/alerts.md)")) == ["README.md does not link docs/metrics.md"]


def test_a_verdict_of_clang_tidy_is_of_use_to_another_clone_and_not_to_other_settings():
    def known_by(home, compiler, more=""):
        return list(c_code.words_that_matter(f"{compiler} -Irelay -Wall {more} -isystem {home}/librdkafka/include '-DNAME=\"a b\"' "
                                             f"-MD -MQ {home}/x.o -MF {home}/x.o.d -o {home}/x.o -c ../relay/base/x.c"))
    here = known_by("/home/one", "cc")
    assert here == known_by("/home/two", "ccache cc") == ["-Irelay", "-Wall", '-DNAME="a b"', "-c"]
    assert here != known_by("/home/one", "cc", "-DRELAY_TEST_HOOKS")
