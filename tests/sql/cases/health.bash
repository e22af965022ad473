# SPDX-License-Identifier: Apache-2.0
# Thresholds, result types, and a cost that does not follow the backlog: asserted in buffers, not in time.
migrate up
assertions "$here/health.sql" -v rows="${rows:-1000000}"
