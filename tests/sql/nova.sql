-- SPDX-License-Identifier: Apache-2.0
-- An outbox as an application made it for itself: no seq, rows marked by published_at, objects under our names.
CREATE TABLE public.outbox_events (
 id UUID PRIMARY KEY DEFAULT gen_random_uuid(), aggregate_type VARCHAR(255) NOT NULL, aggregate_id UUID NOT NULL,
 event_type VARCHAR(255) NOT NULL, payload JSONB NOT NULL, metadata JSONB, created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
 published_at TIMESTAMPTZ, retry_count INT NOT NULL DEFAULT 0 CHECK (retry_count >= 0), last_error TEXT,
 CHECK (published_at IS NULL OR published_at >= created_at));
CREATE INDEX idx_outbox_unpublished ON outbox_events (created_at, retry_count) WHERE published_at IS NULL;
CREATE INDEX idx_outbox_aggregate ON outbox_events (aggregate_type, aggregate_id, created_at);
CREATE INDEX idx_outbox_event_type ON outbox_events (event_type, created_at);
CREATE VIEW outbox_status AS SELECT COUNT(*) AS total_events, COUNT(*) FILTER (WHERE published_at IS NULL) AS unpublished_events,
 COUNT(*) FILTER (WHERE retry_count > 0 AND published_at IS NULL) AS failed_events,
 MIN(created_at) FILTER (WHERE published_at IS NULL) AS oldest_unpublished, MAX(created_at) AS newest_event,
 EXTRACT(EPOCH FROM (NOW() - MIN(created_at) FILTER (WHERE published_at IS NULL))) AS oldest_age_seconds FROM outbox_events;
CREATE FUNCTION check_outbox_health() RETURNS TABLE (health_status VARCHAR(20), message TEXT, unpublished_count BIGINT, oldest_age_seconds BIGINT)
LANGUAGE plpgsql AS $$ BEGIN RETURN QUERY SELECT 'OK'::VARCHAR(20), 'x'::TEXT, count(*), ROUND(EXTRACT(EPOCH FROM now() - min(created_at))) FROM outbox_events; END $$;
