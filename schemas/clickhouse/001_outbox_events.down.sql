-- SPDX-License-Identifier: Apache-2.0
-- The events are still in Kafka as long as it keeps them; replay --into fills the table again.

DROP TABLE IF EXISTS outbox_events;
