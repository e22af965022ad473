-- SPDX-License-Identifier: Apache-2.0

DROP TABLE IF EXISTS outbox_relay_dead_letters;
