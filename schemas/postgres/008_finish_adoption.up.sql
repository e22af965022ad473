-- relay:no-transaction
-- SPDX-License-Identifier: Apache-2.0
-- NOT NULL, identity, trigger and registration of an adopted table; nothing to do for a new one.

CALL outbox_relay.finish_adoption('public.outbox_events');
