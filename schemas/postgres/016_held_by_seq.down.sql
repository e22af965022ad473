-- SPDX-License-Identifier: Apache-2.0
DROP INDEX outbox_relay.held_aggregates_lowest_seq;
