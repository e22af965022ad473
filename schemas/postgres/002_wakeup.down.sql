-- SPDX-License-Identifier: Apache-2.0

DROP FUNCTION outbox_relay.create_wakeup_trigger(regclass);
DROP FUNCTION outbox_relay.try_sleep(regclass, integer);
DROP FUNCTION outbox_relay.notify_wakeup();
