-- SPDX-License-Identifier: Apache-2.0
-- An adopted table loses seq again; a new one keeps it.

SELECT outbox_relay.abandon_adoption(t.id) FROM pg_catalog.to_regclass('public.outbox_events') t (id) WHERE t.id IS NOT NULL;
