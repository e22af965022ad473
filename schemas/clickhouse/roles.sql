-- SPDX-License-Identifier: Apache-2.0
-- Least privilege in ClickHouse. Not part of the migrations, since roles belong to the whole server: run it by a user
-- that may create roles and has these rights to give, once for each database with tables of the relay, which is the
-- client's current one and must exist, and on each server unless the servers replicate their roles. Safe to repeat.
--   clickhouse-client --query 'CREATE DATABASE IF NOT EXISTS shop'
--   clickhouse-client --database shop --queries-file roles.sql
--   outbox_daemon    the daemon; check, status, replay --into, dead-letters list and show
--   outbox_operator  the daemon's rights, and dead-letters retry and drop
--   outbox_migrator  migrate clickhouse
-- They cannot log in: GRANT outbox_daemon TO outbox_relay.

CREATE ROLE IF NOT EXISTS outbox_daemon, outbox_operator, outbox_migrator;

-- The tables of the routes, the dead letters, and the tables that views of them fill. To read: what a table has, since
-- the offsets that Kafka knows are a lower bound only; and an INSERT that lost its sender before the views had it is
-- repeated out of the table.
GRANT SELECT, INSERT ON * TO outbox_daemon;
-- What input(), out of which INSERTs read, asks for before ClickHouse 26.5, on all databases or not at all.
GRANT CREATE TEMPORARY TABLE ON *.* TO outbox_daemon;
-- What a table remembers of blocks; whether its offsets have an index; INSERTs that still run (it ends those of its own
-- user, which needs no grant); how many blocks came since.
GRANT SELECT ON system.merge_tree_settings TO outbox_daemon;
GRANT SELECT ON system.data_skipping_indices TO outbox_daemon;
GRANT SELECT ON system.processes TO outbox_daemon;
GRANT SELECT ON system.parts TO outbox_daemon;
-- Where tables are replicated.
GRANT SELECT ON system.replicated_merge_tree_settings TO outbox_daemon;
GRANT SELECT ON system.replicas TO outbox_daemon;
GRANT SYSTEM SYNC REPLICA ON * TO outbox_daemon;

GRANT outbox_daemon TO outbox_operator;
-- Another table where [insert] dead_letter_table names one.
GRANT ALTER DELETE ON outbox_relay_dead_letters TO outbox_operator;

GRANT SELECT, INSERT, CREATE DATABASE, CREATE TABLE, DROP TABLE, ALTER ADD COLUMN, ALTER DROP COLUMN ON * TO outbox_migrator;
-- Last, as servers that do not ask for it may not know it.
GRANT TABLE ENGINE ON MergeTree TO outbox_migrator;
