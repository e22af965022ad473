-- SPDX-License-Identifier: Apache-2.0

DROP FUNCTION outbox_relay.drop_invalid_indexes();
DROP FUNCTION outbox_relay.abandon_adoption(regclass);
DROP FUNCTION outbox_relay.revert_adoption(regclass);
DROP PROCEDURE outbox_relay.finish_adoption(regclass);
DROP PROCEDURE outbox_relay.adopt_outbox(regclass, integer);
DROP PROCEDURE outbox_relay.backfill_seq(regclass, integer);
DROP FUNCTION outbox_relay.add_not_null_check(regclass);
DROP FUNCTION outbox_relay.make_identity(regclass);
DROP FUNCTION outbox_relay.begin_adoption(regclass);
DROP PROCEDURE outbox_relay.run_short_step(regclass, text, integer);
DROP TABLE outbox_relay.adoptions;
