-- SPDX-License-Identifier: Apache-2.0
-- What a dead letter is made of comes back as it was: json with its blanks, order and members that come twice, and jsonb null.

-- As in 014, but columns of type json are kept as texts at once, where they had gone through jsonb if it could hold them. The
-- event is tried in three forms, until one can be stored: the row as jsonb, unless a column is of type json; its columns of type
-- json as texts; all of its columns as texts, each too large one cut to its beginning. Columns kept as texts are named in the
-- member outbox_relay.json_texts, cut ones in outbox_relay.cut, with the bytes that they had.
CREATE OR REPLACE FUNCTION outbox_relay.dead_letter(
    of_outbox regclass, event_seq bigint, code text, reason text, tries integer,
    first_failed timestamptz DEFAULT NULL,
    into_table regclass DEFAULT 'public.outbox_dead_letters')
RETURNS bigint LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET datestyle = iso
AS $function$
DECLARE
    -- Of all columns together, half of what one jsonb takes.
    room constant integer := 128 * 1024 * 1024;
    kept constant integer := 65536;
    seq_name name;
    time_name name;
    time_value text := 'NULL::timestamptz';
    only_unpublished text := '';
    column_count integer;
    text_names text[];
    event_value text := 'to_jsonb(outbox_relay_row)';
    new_id bigint;
BEGIN
    SELECT o.seq_column, o.created_at_column INTO seq_name, time_name
      FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not an outbox of the relay', of_outbox USING ERRCODE = 'undefined_object';
    END IF;
    IF EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = 'published_at' AND NOT a.attisdropped) THEN
        only_unpublished := 'AND published_at IS NULL';
    END IF;
    IF EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = time_name AND NOT a.attisdropped
                  AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)) THEN
        time_value := format('(outbox_relay_row).%I::timestamptz', time_name);
    END IF;
    FOR form IN 1..3 LOOP
        CONTINUE WHEN form = 1 AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.atttypid = 'json'::regtype);
        IF form > 1 THEN
            SELECT count(*), array_agg(a.attname::text) FILTER (WHERE form = 3 OR a.atttypid = 'json'::regtype)
              INTO column_count, text_names
              FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attnum > 0 AND NOT a.attisdropped;
            CONTINUE WHEN text_names IS NULL;
            SELECT format('(SELECT to_jsonb(outbox_relay_columns) FROM (SELECT %s) outbox_relay_columns) '
                          '|| jsonb_build_object(''outbox_relay.json_texts'', %L::jsonb)',
                       string_agg(format(
                           CASE WHEN form = 3
                                THEN 'CASE WHEN octet_length((outbox_relay_row).%1$I::text) > %2$s '
                                     'THEN left((outbox_relay_row).%1$I::text, %3$s) ELSE (outbox_relay_row).%1$I::text END AS %1$I'
                                WHEN a.attname = ANY (text_names) THEN '(outbox_relay_row).%1$I::text AS %1$I'
                                ELSE '(outbox_relay_row).%1$I' END,
                           a.attname, room / column_count, kept), ', '),
                       to_jsonb(text_names))
                   || CASE WHEN form = 3 THEN format(
                          ' || jsonb_strip_nulls(jsonb_build_object(''outbox_relay.cut'', '
                          '(SELECT jsonb_object_agg(c.name, c.bytes) FROM (VALUES %s) c (name, bytes) WHERE c.bytes > %s)))',
                          string_agg(format('(%L, octet_length((outbox_relay_row).%I::text))', a.attname, a.attname), ', '),
                          room / column_count) ELSE '' END
              INTO event_value
              FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attnum > 0 AND NOT a.attisdropped;
        END IF;
        BEGIN
            -- The names of rows, here and above, are none that a column has: that column would be meant instead.
            EXECUTE format(
                'WITH gone AS (DELETE FROM %1$s outbox_relay_row WHERE %2$I = $1 %3$s RETURNING outbox_relay_row), '
                'letter AS (SELECT %5$s AS created, %6$s AS event FROM gone) '
                'INSERT INTO %4$s (outbox, event_id, aggregate_type, aggregate_id, event_type, seq, event_created_at, '
                '                  event, reason_code, reason_text, first_failed_at, attempts) '
                'SELECT $2, left(coalesce(event->>''id'', event->>''event_id'', $1::text), 500), '
                '       coalesce(event->>''aggregate_type'', event->>''aggregatetype''), '
                '       coalesce(event->>''aggregate_id'', event->>''aggregateid''), '
                '       left(coalesce(event->>''event_type'', event->>''type''), 500), $1, created, '
                '       event, $3, $4, coalesce($5, now()), $6 FROM letter RETURNING dead_letter_id',
                of_outbox, seq_name, only_unpublished, into_table, time_value, event_value)
            INTO new_id USING event_seq, of_outbox::text, code, reason, first_failed, greatest(tries, 1);
            RETURN new_id;
        EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
            IF form = 3 THEN
                RAISE;
            END IF;
        END;
    END LOOP;
END
$function$;

-- As in 011, but null in a column of type jsonb that may not be NULL is jsonb's null, of which jsonb_populate_record makes NULL.
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
