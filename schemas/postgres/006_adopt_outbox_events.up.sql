-- relay:no-transaction
-- SPDX-License-Identifier: Apache-2.0
-- Gives an existing public.outbox_events its seq, in small transactions; nothing to do for a new one.

CALL outbox_relay.adopt_outbox('public.outbox_events');
