-- SPDX-License-Identifier: Apache-2.0
-- The functions as they were before.

ALTER FUNCTION outbox_relay.create_wakeup_trigger(regclass) RESET lock_timeout;
ALTER FUNCTION outbox_relay.detach_outbox(regclass) RESET lock_timeout;
ALTER FUNCTION outbox_relay.count_unpublished(regclass, bigint) RESET timezone;

-- As in 009.
CREATE OR REPLACE FUNCTION outbox_relay.time_expression(of_outbox regclass, time_name name)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT coalesce((
        SELECT CASE WHEN a.atttypid = 'bigint'::regtype THEN format('to_timestamp(%I / 1000.0)', a.attname)
                    ELSE format('%I', a.attname) END
          FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = time_name AND NOT a.attisdropped), 'NULL')
$function$;

-- As in 004.
CREATE OR REPLACE FUNCTION outbox_relay.attach_outbox(
    of_outbox regclass, seq_name name DEFAULT 'seq', time_name name DEFAULT 'created_at',
    was_adopted boolean DEFAULT false)
RETURNS uuid LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    found_identity uuid;
    sequence_of record;
BEGIN
    PERFORM 1 FROM pg_attribute a
      WHERE a.attrelid = of_outbox AND a.attname = seq_name AND a.attidentity <> '' AND a.atttypid = 'bigint'::regtype;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'column %.% is not a bigint identity column', of_outbox, seq_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'CALL outbox_relay.adopt_outbox(...) adds it without a long lock.';
    END IF;
    SELECT s.* INTO sequence_of FROM pg_sequence s
     WHERE s.seqrelid = pg_get_serial_sequence(of_outbox::text, seq_name)::regclass;
    -- A cached or descending sequence breaks the order of events, a cycling one uniqueness.
    IF sequence_of.seqcache <> 1 OR sequence_of.seqincrement <> 1 OR sequence_of.seqcycle THEN
        RAISE EXCEPTION 'the sequence of %.% must have CACHE 1, INCREMENT 1 and NO CYCLE', of_outbox, seq_name
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    PERFORM 1 FROM pg_index i JOIN pg_attribute a ON a.attrelid = of_outbox AND a.attname = seq_name
      WHERE i.indrelid = of_outbox AND i.indisunique AND i.indisvalid AND i.indkey[0] = a.attnum AND i.indnkeyatts = 1;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no valid unique index on %(%)', of_outbox, seq_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('CREATE UNIQUE INDEX CONCURRENTLY %I ON %s (%I) WHERE published_at IS NULL;',
                                outbox_relay.seq_index_name(of_outbox), of_outbox, seq_name);
    END IF;
    PERFORM outbox_relay.create_wakeup_trigger(of_outbox);
    INSERT INTO outbox_relay.outboxes (outbox, system_identifier, adopted, seq_column, created_at_column)
    SELECT of_outbox, c.system_identifier, was_adopted, seq_name, time_name FROM pg_control_system() c
    ON CONFLICT (outbox) DO NOTHING;
    SELECT o.identity INTO found_identity FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    RETURN found_identity;
END
$function$;

-- As in 017.
CREATE OR REPLACE FUNCTION outbox_relay.retry_dead_letter(
    letter_id bigint, from_table regclass DEFAULT 'public.outbox_dead_letters')
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    letter_outbox text;
    target regclass;
    letter jsonb;
    seq_name name;
    json_texts jsonb;
    column_list text;
    value_list text;
    new_seq bigint;
BEGIN
    EXECUTE format('DELETE FROM %s WHERE dead_letter_id = $1 RETURNING outbox, event', from_table)
       INTO letter_outbox, letter USING letter_id;
    IF letter IS NULL THEN
        RETURN NULL;
    END IF;
    target := to_regclass(letter_outbox);
    SELECT o.seq_column INTO seq_name FROM outbox_relay.outboxes o WHERE o.outbox = target;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'dead letter % came from table %, which is not an outbox of the relay', letter_id, letter_outbox
            USING ERRCODE = 'undefined_object';
    END IF;
    IF letter ? 'outbox_relay.cut' THEN
        RAISE EXCEPTION 'dead letter % was too large to be kept whole: only the beginning is left (bytes before: %)',
            letter_id, letter->'outbox_relay.cut' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    json_texts := coalesce(letter->'outbox_relay.json_texts', '[]');
    letter := letter - ARRAY['published_at', 'retry_count', 'last_error'] - seq_name::text;
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
           string_agg(CASE WHEN json_texts ? a.attname
                           THEN format('($1->>%L)::%s', a.attname, format_type(a.atttypid, a.atttypmod))
                           WHEN a.attnotnull AND a.atttypid = 'jsonb'::regtype AND letter->a.attname::text = 'null' THEN '''null''::jsonb'
                           ELSE quote_ident(a.attname) END, ', ' ORDER BY a.attnum)
      INTO column_list, value_list
      FROM pg_attribute a
     WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
       AND letter ? a.attname;
    EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %4$s FROM jsonb_populate_record(NULL::%1$s, $1 - $2) RETURNING %3$I',
                   target, column_list, seq_name, value_list)
       INTO new_seq USING letter, ARRAY(SELECT jsonb_array_elements_text(json_texts));
    PERFORM pg_notify('outbox_relay_' || target::oid::text, '');
    RETURN new_seq;
END
$function$;

-- As in 010.
CREATE OR REPLACE FUNCTION outbox_relay.outbox_status(of_outbox regclass)
RETURNS TABLE (total_events bigint, unpublished_events bigint, failed_events bigint,
               oldest_unpublished timestamptz, newest_event timestamptz, oldest_age_seconds bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS $function$
DECLARE
    counted record;
    planned real;
BEGIN
    SELECT * INTO counted FROM outbox_relay.count_unpublished(of_outbox, 10000);
    unpublished_events := counted.unpublished;
    oldest_unpublished := counted.oldest;
    newest_event := counted.newest;
    oldest_age_seconds := coalesce(greatest(0, extract(epoch FROM clock_timestamp() - counted.oldest)), 0)::bigint;
    failed_events := outbox_relay.count_dead_letters(of_outbox);
    IF pg_relation_size(of_outbox) < 64 * 1024 * 1024 THEN
        EXECUTE format('SELECT count(*), max(%s) FROM %s',
                       outbox_relay.time_expression(of_outbox, (SELECT o.created_at_column FROM outbox_relay.outboxes o
                                                                 WHERE o.outbox = of_outbox)), of_outbox)
           INTO total_events, newest_event;
    ELSE
        SELECT c.reltuples INTO planned FROM pg_class c WHERE c.oid = of_outbox;
        total_events := greatest(planned::bigint, unpublished_events);
    END IF;
    RETURN NEXT;
END
$function$;
