-- SPDX-License-Identifier: Apache-2.0
-- Outbox tables that an application has made for itself: keys that are identities, columns of type timestamp, indexes of other
-- rows, partitions; and a table that is in use is not waited for without end, with all its writers behind.

-- As in 002 and 014; migrate asks for one second too, and again. By hand one calls the function again.
ALTER FUNCTION outbox_relay.create_wakeup_trigger(regclass) SET lock_timeout = '1s';
ALTER FUNCTION outbox_relay.detach_outbox(regclass) SET lock_timeout = '1s';

-- As in 010, but a timestamp without time zone is UTC, as it is to the relay, whatever the caller's time zone is.
ALTER FUNCTION outbox_relay.count_unpublished(regclass, bigint) SET timezone = 'UTC';

-- As in 009, but integers that no timestamp can hold (microseconds, say) are no time, and a domain is what it is made of: both
-- as the relay reads them. With an error there was no health of such an outbox at all.
CREATE OR REPLACE FUNCTION outbox_relay.time_expression(of_outbox regclass, time_name name)
RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
    WITH RECURSIVE under (name, type) AS (
        SELECT a.attname, a.atttypid FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = time_name AND NOT a.attisdropped
        UNION ALL
        SELECT u.name, t.typbasetype FROM under u JOIN pg_type t ON t.oid = u.type AND t.typtype = 'd')
    SELECT coalesce((
        SELECT CASE WHEN bool_or(u.type = 'bigint'::regtype)
                    THEN format('CASE WHEN %1$I BETWEEN -210000000000000 AND 9000000000000000 THEN to_timestamp(%1$I / 1000.0) END', u.name)
                    ELSE format('%I', u.name) END
          FROM under u GROUP BY u.name), 'NULL')
$function$;

-- As in 004, but for the lock, and the index: it has all rows, or those that are not published. By one of other rows no
-- statement of the relay can read. Of a partitioned table it is said why PostgreSQL makes no such index.
CREATE OR REPLACE FUNCTION outbox_relay.attach_outbox(
    of_outbox regclass, seq_name name DEFAULT 'seq', time_name name DEFAULT 'created_at',
    was_adopted boolean DEFAULT false)
RETURNS uuid LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $function$
DECLARE
    found_identity uuid;
    sequence_of record;
    partitioned boolean;
    marks boolean;
    whole_index boolean;
    open_index boolean;
    create_index text;
BEGIN
    partitioned := (SELECT c.relkind = 'p' FROM pg_class c WHERE c.oid = of_outbox);
    IF partitioned AND NOT EXISTS (
        SELECT 1 FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
         WHERE p.partrelid = of_outbox AND p.partnatts = 1 AND a.attname = seq_name) THEN
        RAISE EXCEPTION 'table % is partitioned by %, and can have no unique index on % alone', of_outbox, pg_get_partkeydef(of_outbox), seq_name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('PostgreSQL demands the partition key in every unique index. Partition the table by %I, or not at all.', seq_name);
    END IF;
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
    marks := EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = 'published_at' AND NOT a.attisdropped);
    create_index := format('CREATE UNIQUE INDEX %s%I ON %s (%I)%s;', CASE WHEN partitioned THEN '' ELSE 'CONCURRENTLY ' END,
                           outbox_relay.seq_index_name(of_outbox), of_outbox, seq_name,
                           CASE WHEN marks THEN ' WHERE published_at IS NULL' ELSE '' END);
    SELECT count(*) FILTER (WHERE i.indpred IS NULL) > 0,
           count(*) FILTER (WHERE pg_get_expr(i.indpred, i.indrelid) = '(published_at IS NULL)') > 0
      INTO whole_index, open_index
      FROM pg_index i JOIN pg_attribute a ON a.attrelid = of_outbox AND a.attname = seq_name
     WHERE i.indrelid = of_outbox AND i.indisunique AND i.indisvalid AND i.indkey[0] = a.attnum AND i.indnkeyatts = 1;
    IF NOT whole_index AND NOT open_index THEN
        RAISE EXCEPTION 'no valid unique index on %(%) of all rows%', of_outbox, seq_name,
                CASE WHEN marks THEN ' or of those WHERE published_at IS NULL' ELSE '' END
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = create_index;
    END IF;
    IF marks AND NOT open_index THEN
        RAISE WARNING 'the unique index on %(%) has published rows too: with disposition = mark the relay reads through all that are kept',
                of_outbox, seq_name
            USING HINT = create_index;
    END IF;
    PERFORM outbox_relay.create_wakeup_trigger(of_outbox);
    INSERT INTO outbox_relay.outboxes (outbox, system_identifier, adopted, seq_column, created_at_column)
    SELECT of_outbox, c.system_identifier, was_adopted, seq_name, time_name FROM pg_control_system() c
    ON CONFLICT (outbox) DO NOTHING;
    SELECT o.identity INTO found_identity FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    RETURN found_identity;
END
$function$;

-- As in 017, but identity columns other than the number take back the value that they had, and the error about a table that is
-- no outbox says what to do about one that was renamed.
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
            USING ERRCODE = 'undefined_object',
                  HINT = format('If the table was renamed: UPDATE %s SET outbox = ''new_schema.new_name'' WHERE outbox = %L;',
                                from_table, letter_outbox);
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
    -- The number is not in the list: it is drawn anew all the same.
    EXECUTE format('INSERT INTO %1$s (%2$s) OVERRIDING SYSTEM VALUE '
                   'SELECT %4$s FROM jsonb_populate_record(NULL::%1$s, $1 - $2) RETURNING %3$I',
                   target, column_list, seq_name, value_list)
       INTO new_seq USING letter, ARRAY(SELECT jsonb_array_elements_text(json_texts));
    PERFORM pg_notify('outbox_relay_' || target::oid::text, '');
    RETURN new_seq;
END
$function$;

-- As in 010, but the size of a partitioned table is that of its partitions, and times are read as by count_unpublished.
CREATE OR REPLACE FUNCTION outbox_relay.outbox_status(of_outbox regclass)
RETURNS TABLE (total_events bigint, unpublished_events bigint, failed_events bigint,
               oldest_unpublished timestamptz, newest_event timestamptz, oldest_age_seconds bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off SET timezone = 'UTC'
AS $function$
DECLARE
    counted record;
    bytes bigint;
    planned bigint;
BEGIN
    SELECT * INTO counted FROM outbox_relay.count_unpublished(of_outbox, 10000);
    unpublished_events := counted.unpublished;
    oldest_unpublished := counted.oldest;
    newest_event := counted.newest;
    oldest_age_seconds := coalesce(greatest(0, extract(epoch FROM clock_timestamp() - counted.oldest)), 0)::bigint;
    failed_events := outbox_relay.count_dead_letters(of_outbox);
    SELECT sum(pg_relation_size(c.oid)), sum(greatest(c.reltuples, 0)) INTO bytes, planned
      FROM (SELECT of_outbox::oid UNION SELECT p.relid::oid FROM pg_partition_tree(of_outbox) p) t (id)
      JOIN pg_class c ON c.oid = t.id WHERE c.relkind <> 'p';
    IF bytes < 64 * 1024 * 1024 THEN
        EXECUTE format('SELECT count(*), max(%s) FROM %s',
                       outbox_relay.time_expression(of_outbox, (SELECT o.created_at_column FROM outbox_relay.outboxes o
                                                                 WHERE o.outbox = of_outbox)), of_outbox)
           INTO total_events, newest_event;
    ELSE
        total_events := greatest(planned, unpublished_events);
    END IF;
    RETURN NEXT;
END
$function$;
