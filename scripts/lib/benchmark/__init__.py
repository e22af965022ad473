# SPDX-License-Identifier: Apache-2.0
"""What scripts/bench measures: each row of its table is a ratio of two things measured in the same run."""
