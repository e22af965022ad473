-- SPDX-License-Identifier: Apache-2.0
-- An adopted table goes back to a plain seq with a default; a new one stays as it is.

SELECT outbox_relay.revert_adoption('public.outbox_events');
