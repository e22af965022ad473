-- SPDX-License-Identifier: Apache-2.0
-- An adopted table goes back to a plain seq with a default; a new one stays as it is.

SELECT outbox_relay.revert_adoption(t.id) FROM pg_catalog.to_regclass('public.outbox_events') t (id) WHERE t.id IS NOT NULL;
