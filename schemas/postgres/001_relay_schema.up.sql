-- SPDX-License-Identifier: Apache-2.0
-- The relay's own objects live in schema outbox_relay; the application never needs to look into it.

CREATE SCHEMA IF NOT EXISTS outbox_relay;
COMMENT ON SCHEMA outbox_relay IS 'outbox-relay: its own tables and functions';

-- One row for each outbox table. The identity is in the transactional.id and in every receipt, so that two
-- databases that share a Kafka cluster can never take each other's receipts for their own.
CREATE TABLE outbox_relay.outboxes (
    identity          uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    outbox            regclass    NOT NULL UNIQUE,
    -- A dump restored elsewhere keeps the identity but not the system identifier: the relay stops and asks.
    system_identifier bigint      NOT NULL,
    adopted           boolean     NOT NULL DEFAULT false,
    seq_column        name        NOT NULL DEFAULT 'seq',
    created_at_column name        NOT NULL DEFAULT 'created_at',
    -- Adoption leaves numbers unused between old rows and new ones: no row has gap_from <= seq < gap_to.
    gap_from          bigint,
    gap_to            bigint,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CHECK ((gap_from IS NULL) = (gap_to IS NULL) AND gap_from <= gap_to)
);
COMMENT ON TABLE outbox_relay.outboxes IS 'the outbox tables the relay knows, each with its identity';

-- Batch numbers are inserted, never updated: one updated row gets slower with each version that an old
-- snapshot keeps alive (measured: from 140 k to 4 k updates a second), an insert does not.
CREATE TABLE outbox_relay.batch_numbers (
    identity          uuid        NOT NULL,
    generation        integer     NOT NULL CHECK (generation >= 1),
    number            bigint      NOT NULL CHECK (number >= 0),
    receipt_topic_id  text,
    receipt_partition integer,
    receipt_offset    bigint,
    written_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (identity, generation, number)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false);
COMMENT ON TABLE outbox_relay.batch_numbers IS 'the last batch numbers of each outbox, written in the batch''s own transaction';

-- Every row with seq <= settled_seq has been published (or is held, parked or dead-lettered). The health
-- function starts there, past the dead rows that an old snapshot may keep in the index.
CREATE TABLE outbox_relay.progress (
    identity    uuid        PRIMARY KEY REFERENCES outbox_relay.outboxes ON UPDATE CASCADE ON DELETE CASCADE,
    settled_seq bigint      NOT NULL,
    noted_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 10, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 100);
COMMENT ON TABLE outbox_relay.progress IS 'up to which seq each outbox is settled; noted now and then, never ahead of the truth';

-- Aggregates whose events wait behind one that could not be published (on_poison = hold_aggregate).
CREATE TABLE outbox_relay.held_aggregates (
    identity       uuid        NOT NULL REFERENCES outbox_relay.outboxes ON UPDATE CASCADE ON DELETE CASCADE,
    aggregate_type text        NOT NULL,
    aggregate_id   text        NOT NULL,
    lowest_seq     bigint      NOT NULL,
    reason_code    text        NOT NULL,
    reason_text    text        NOT NULL,
    held_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity, aggregate_type, aggregate_id)
);
COMMENT ON TABLE outbox_relay.held_aggregates IS 'aggregates that wait for an operator, with their lowest waiting seq';

-- Event types whose topic an operator must mend (missing, no permission); all others flow on.
CREATE TABLE outbox_relay.parked_event_types (
    identity    uuid        NOT NULL REFERENCES outbox_relay.outboxes ON UPDATE CASCADE ON DELETE CASCADE,
    event_type  text        NOT NULL,
    topic       text        NOT NULL,
    lowest_seq  bigint      NOT NULL,
    reason_code text        NOT NULL,
    reason_text text        NOT NULL,
    parked_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (identity, event_type)
);
COMMENT ON TABLE outbox_relay.parked_event_types IS 'event types whose topic an operator must mend, with their lowest waiting seq';

-- Writes batch number n in the transaction of batch n, and raises (SQLSTATE 55000) unless n - 1 is the last one. Deferred
-- constraints are checked here as well: after this returned, only COMMIT is left to do. Two sessions that
-- write the same number collide in the primary key: the second waits for the first and then fails.
-- The old number is deleted by its exact key: a range scan from the low end would walk every dead entry.
CREATE FUNCTION outbox_relay.write_batch_number(
    batch_identity uuid, batch_generation integer, batch_number bigint,
    topic_id text, topic_partition integer, topic_offset bigint)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $function$
DECLARE
    last record;
    want_generation integer := 1;
    want_number bigint := 1;
BEGIN
    SELECT b.generation, b.number INTO last
      FROM outbox_relay.batch_numbers b WHERE b.identity = batch_identity
     ORDER BY b.generation DESC, b.number DESC LIMIT 1;
    IF FOUND THEN
        want_generation := last.generation;
        want_number := last.number + 1;
    ELSIF NOT EXISTS (SELECT 1 FROM outbox_relay.outboxes o WHERE o.identity = batch_identity) THEN
        RAISE EXCEPTION 'no outbox has the identity %', batch_identity USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF batch_generation IS DISTINCT FROM want_generation OR batch_number IS DISTINCT FROM want_number THEN
        RAISE EXCEPTION 'batch number %/% does not follow the last one: %/% is next',
            batch_generation, batch_number, want_generation, want_number
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Another relay has written batches of this outbox, or a commit was lost: start a new term.';
    END IF;
    INSERT INTO outbox_relay.batch_numbers
        (identity, generation, number, receipt_topic_id, receipt_partition, receipt_offset)
    VALUES (batch_identity, batch_generation, batch_number, topic_id, topic_partition, topic_offset);
    DELETE FROM outbox_relay.batch_numbers b
     WHERE b.identity = batch_identity AND b.generation = batch_generation AND b.number = batch_number - 64;
    SET CONSTRAINTS ALL IMMEDIATE;
END
$function$;

-- The last batch number and where its receipt stands; no row if no batch was ever written.
CREATE FUNCTION outbox_relay.last_batch_number(batch_identity uuid)
RETURNS TABLE (generation integer, number bigint, receipt_topic_id text, receipt_partition integer,
               receipt_offset bigint, written_at timestamptz)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $function$
    SELECT b.generation, b.number, b.receipt_topic_id, b.receipt_partition, b.receipt_offset, b.written_at
      FROM outbox_relay.batch_numbers b WHERE b.identity = batch_identity
     ORDER BY b.generation DESC, b.number DESC LIMIT 1
$function$;

-- Starts a new generation after a forced resync. Its numbers continue above base_number, which must not be below the
-- last number written, so that no receipt still in Kafka can be taken for one of the new generation.
-- Returns the new generation.
CREATE FUNCTION outbox_relay.begin_generation(batch_identity uuid, base_number bigint)
RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $function$
DECLARE
    last record;
    new_generation integer := 1;
BEGIN
    PERFORM 1 FROM outbox_relay.outboxes o WHERE o.identity = batch_identity;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no outbox has the identity %', batch_identity USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT b.generation, b.number INTO last
      FROM outbox_relay.batch_numbers b WHERE b.identity = batch_identity
     ORDER BY b.generation DESC, b.number DESC LIMIT 1;
    IF FOUND THEN
        new_generation := last.generation + 1;
        IF base_number < last.number THEN
            RAISE EXCEPTION 'the new generation would begin at % below the last batch number %', base_number, last.number
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
    END IF;
    INSERT INTO outbox_relay.batch_numbers (identity, generation, number)
    VALUES (batch_identity, new_generation, base_number);
    RETURN new_generation;
END
$function$;

-- Notes how far the outbox is settled. Called at most once a second; an older value never replaces a newer
-- one. Takes the seq below which nothing is left to publish but held and parked rows: past no hole.
CREATE FUNCTION outbox_relay.note_progress(outbox_identity uuid, settled bigint)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $function$
    INSERT INTO outbox_relay.progress AS p (identity, settled_seq) VALUES (outbox_identity, settled)
    ON CONFLICT (identity) DO UPDATE SET settled_seq = excluded.settled_seq, noted_at = clock_timestamp()
    WHERE p.settled_seq < excluded.settled_seq
$function$;

-- For a database that was copied (staging from a dump): a fresh identity, so that both copies can run.
-- The numbers of the old identity are dropped; receipts of it in Kafka are never acted on again.
CREATE FUNCTION outbox_relay.renew_identity(of_outbox regclass)
RETURNS uuid LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    old_identity uuid;
    new_identity uuid := gen_random_uuid();
BEGIN
    SELECT o.identity INTO old_identity FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not an outbox of the relay', of_outbox USING ERRCODE = 'undefined_object';
    END IF;
    DELETE FROM outbox_relay.batch_numbers b WHERE b.identity = old_identity;
    UPDATE outbox_relay.outboxes o SET identity = new_identity, system_identifier = c.system_identifier
      FROM pg_control_system() c WHERE o.outbox = of_outbox;
    RETURN new_identity;
END
$function$;

-- For a database that was moved (pg_upgrade, restored for good): the identity stays, the new server is accepted.
CREATE FUNCTION outbox_relay.accept_system(of_outbox regclass)
RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $function$
    UPDATE outbox_relay.outboxes o SET system_identifier = c.system_identifier
      FROM pg_control_system() c WHERE o.outbox = of_outbox
$function$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox_relay FROM PUBLIC;
