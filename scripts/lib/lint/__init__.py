# SPDX-License-Identifier: Apache-2.0
"""The checks of scripts/lint. Each takes the Tree and returns its findings, one line each; none: it passed."""
