# SPDX-License-Identifier: Apache-2.0
"""Local PostgreSQL, Apache Kafka, ClickHouse and Alertmanager for scripts/services: one module each,
process.py for what they share (starting, identifying, signalling, waiting), instance.py for the folder."""
