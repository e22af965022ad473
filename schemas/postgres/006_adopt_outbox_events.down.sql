-- SPDX-License-Identifier: Apache-2.0
-- An adopted table loses seq again; a new one keeps it.

SELECT outbox_relay.abandon_adoption('public.outbox_events');
