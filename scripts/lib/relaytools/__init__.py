# SPDX-License-Identifier: Apache-2.0
"""Tools that the demo, the integration tests and the torture bench share: local servers, a relay process, a workload
that keeps a journal of what it committed, and an auditor that holds Kafka and ClickHouse against that journal."""
