-- SPDX-License-Identifier: Apache-2.0
-- What is renamed, dropped or beyond all limits beside the relay: columns of the outboxes, and dates that are no times.

-- Held aggregates, by their bytes.

-- Held aggregates are found by their bytes, as parked topics are: in the order of a collation, an index that a change of the
-- system's collations has left as it was may not find them, and their later events would go out before them. The columns stay as
-- they are: the statements of the version before have no collation of their own. First of all, while nothing else is locked: who
-- holds an aggregate looks at outboxes next.
CREATE UNIQUE INDEX held_aggregates_by_bytes
    ON outbox_relay.held_aggregates (identity, aggregate_type COLLATE pg_catalog."C", aggregate_id COLLATE pg_catalog."C");

-- What a table was when it was attached.
--
-- Every statement of the relay leaves out rows that have a published_at, if the table has such a column. One that loses it
-- (a naming strategy renames it; whoever deletes rows drops it) would have all that it has kept published once more.

-- Whether the table had it (NULL: nobody has looked), and which it was: a new one of the same name marks no row. Where a dump was
-- restored columns are numbered anew, but then the table has another number, too, and the name has to do until it is attached again.
ALTER TABLE outbox_relay.outboxes ADD COLUMN marks boolean, ADD COLUMN marked_table oid, ADD COLUMN marked_column smallint;
COMMENT ON COLUMN outbox_relay.outboxes.marks IS 'whether the table had a column published_at when it was attached';
COMMENT ON COLUMN outbox_relay.outboxes.marked_table IS 'the table''s number then';
COMMENT ON COLUMN outbox_relay.outboxes.marked_column IS 'that column''s number (attnum) then';
UPDATE outbox_relay.outboxes o SET marks = false;
UPDATE outbox_relay.outboxes o SET marks = true, marked_table = a.attrelid, marked_column = a.attnum
  FROM pg_catalog.pg_attribute a WHERE a.attrelid = o.outbox::oid AND a.attname = 'published_at' AND NOT a.attisdropped;

-- Of a table that has lost its column published_at: a person says that it keeps no row that was published, or that the new column
-- marks all of them.
CREATE FUNCTION outbox_relay.accept_unmarked(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    known record;
    mark_column smallint;
BEGIN
    SELECT o.marks, o.marked_table, o.marked_column INTO known FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not an outbox of the relay', of_outbox USING ERRCODE = 'undefined_object';
    END IF;
    SELECT a.attnum INTO mark_column FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = 'published_at' AND NOT a.attisdropped;
    IF mark_column IS NOT NULL AND (known.marked_table IS DISTINCT FROM of_outbox::oid OR known.marked_column = mark_column) THEN
        RAISE EXCEPTION 'table % has its column published_at', of_outbox USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    UPDATE outbox_relay.outboxes o SET marks = mark_column IS NOT NULL, marked_table = of_outbox, marked_column = mark_column
     WHERE o.outbox = of_outbox;
    PERFORM outbox_relay.note_decision(format(CASE WHEN mark_column IS NULL THEN 'all rows of %s are to be published, it marks none any more (accept_unmarked)'
                                                   ELSE 'rows of %s are to be published by its new column published_at (accept_unmarked)' END, of_outbox));
END
$function$;
REVOKE ALL ON FUNCTION outbox_relay.accept_unmarked(regclass) FROM PUBLIC;

-- As in 021, but a table that is attached already gets the names that are given now: they may have been renamed, and by one that
-- is not there health knows no ages. Of one that has lost its published_at it is said. Without a time (NULL) it keeps its own, while
-- that is there; else it is created_at.
CREATE OR REPLACE FUNCTION outbox_relay.attach_outbox(
    of_outbox regclass, seq_name name DEFAULT 'seq', time_name name DEFAULT NULL,
    was_adopted boolean DEFAULT false)
RETURNS uuid LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $function$
DECLARE
    found_identity uuid;
    sequence_of record;
    partitioned boolean;
    can_mark boolean;
    mark_column smallint;
    whole_index boolean;
    open_index boolean;
    create_index text;
    volatile_table regclass;
    registered boolean;
    known record;
    kept_time name := coalesce(time_name, 'created_at');
BEGIN
    -- Before anything else that is said: an index that could be made then would only bring the rows out faster.
    SELECT a.attnum INTO mark_column FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = 'published_at' AND NOT a.attisdropped;
    can_mark := mark_column IS NOT NULL;
    SELECT o.seq_column, o.created_at_column, o.marks, o.marked_table, o.marked_column INTO known
      FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    IF known.marks AND (NOT can_mark OR (known.marked_table = of_outbox::oid AND known.marked_column <> mark_column)) THEN
        RAISE EXCEPTION 'table % had a column published_at when it was attached, and has %: what was published would be published again',
                of_outbox, CASE WHEN can_mark THEN 'another one' ELSE 'none' END
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('Rename it back (an empty new one marks no row). Only if the table keeps no published row, or marks them all: '
                                'SELECT outbox_relay.accept_unmarked(%L);', of_outbox::text);
    END IF;
    -- A column of that name beside the other one has numbers of its own, to which progress and batches do not belong.
    IF known.seq_column <> seq_name
       AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = known.seq_column AND NOT a.attisdropped) THEN
        RAISE EXCEPTION 'table % is attached by its column %, and still has it', of_outbox, known.seq_column
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Its numbers cannot be exchanged: detach_outbox() first, which drops what the relay knows of the table.';
    END IF;
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
    create_index := format('CREATE UNIQUE INDEX %s%I ON %s (%I)%s;', CASE WHEN partitioned THEN '' ELSE 'CONCURRENTLY ' END,
                           outbox_relay.seq_index_name(of_outbox), of_outbox, seq_name,
                           CASE WHEN can_mark THEN ' WHERE published_at IS NULL' ELSE '' END);
    SELECT count(*) FILTER (WHERE i.indpred IS NULL) > 0,
           count(*) FILTER (WHERE pg_get_expr(i.indpred, i.indrelid) = '(published_at IS NULL)') > 0
      INTO whole_index, open_index
      FROM pg_index i JOIN pg_attribute a ON a.attrelid = of_outbox AND a.attname = seq_name
     WHERE i.indrelid = of_outbox AND i.indisunique AND i.indisvalid AND i.indkey[0] = a.attnum AND i.indnkeyatts = 1;
    IF NOT whole_index AND NOT open_index THEN
        RAISE EXCEPTION 'no valid unique index on %(%) of all rows%', of_outbox, seq_name,
                CASE WHEN can_mark THEN ' or of those WHERE published_at IS NULL' ELSE '' END
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = create_index;
    END IF;
    IF can_mark AND NOT open_index THEN
        RAISE WARNING 'the unique index on %(%) has published rows too: with disposition = mark the relay reads through all that are kept',
                of_outbox, seq_name
            USING HINT = create_index;
    END IF;
    SELECT c.oid::regclass INTO volatile_table FROM pg_class c
     WHERE c.relpersistence <> 'p' AND c.oid IN (SELECT of_outbox UNION SELECT p.relid FROM pg_partition_tree(of_outbox) p) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'table % is unlogged or temporary: a crash or a failover empties it', volatile_table
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('ALTER TABLE %s SET LOGGED;', volatile_table);
    END IF;
    PERFORM outbox_relay.create_wakeup_trigger(of_outbox);
    -- Of a table that is known a time that is there stays, where none is named, or one that is not there.
    IF time_name IS NULL AND known.created_at_column = '' THEN
        kept_time := '';
    ELSIF kept_time <> '' AND known.created_at_column <> kept_time
       AND EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = known.created_at_column AND NOT a.attisdropped)
       AND (time_name IS NULL
            OR NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = time_name AND NOT a.attisdropped)) THEN
        kept_time := known.created_at_column;
    END IF;
    INSERT INTO outbox_relay.outboxes (outbox, system_identifier, adopted, seq_column, created_at_column, marks, marked_table, marked_column)
    SELECT of_outbox, c.system_identifier, was_adopted, seq_name, kept_time, can_mark, of_outbox, mark_column FROM pg_control_system() c
    ON CONFLICT (outbox) DO NOTHING;
    registered := FOUND;
    SELECT o.identity INTO found_identity FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    IF registered THEN
        PERFORM outbox_relay.note_decision(format('%s is an outbox, with the identity %s', of_outbox, found_identity));
    ELSIF (known.seq_column, known.created_at_column, known.marks) IS DISTINCT FROM (seq_name, kept_time, can_mark) THEN
        UPDATE outbox_relay.outboxes o SET seq_column = seq_name, created_at_column = kept_time, marks = can_mark
         WHERE o.outbox = of_outbox;
        PERFORM outbox_relay.note_decision(format(
            '%s has seq_column %s, created_at_column %s, marks %s, no longer %s, %s, %s (attach_outbox)',
            of_outbox, seq_name, kept_time, can_mark, known.seq_column, known.created_at_column, known.marks));
    END IF;
    UPDATE outbox_relay.outboxes o SET marked_table = of_outbox, marked_column = mark_column
     WHERE o.outbox = of_outbox AND (o.marked_table, o.marked_column) IS DISTINCT FROM (of_outbox::oid, mark_column);
    RETURN found_identity;
END
$function$;

-- As in 001, but not where the column published_at is another one than it was: dropped and added in one transaction it is missed by no
-- statement that is under way. The batch has the table locked, so that it stays as it is until the commit.
CREATE OR REPLACE FUNCTION outbox_relay.write_batch_number(
    batch_identity uuid, batch_generation integer, batch_number bigint,
    topic_id text, topic_partition integer, topic_offset bigint)
RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $function$
DECLARE
    last record;
    want_generation integer := 1;
    want_number bigint := 1;
    own record; -- not of the table's type, which would be looked up
    has_another boolean := false;
BEGIN
    BEGIN
        LOCK TABLE outbox_relay.outboxes IN ACCESS SHARE MODE NOWAIT;
        SELECT o.outbox, o.marks, o.marked_table, o.marked_column INTO own
          FROM outbox_relay.outboxes o WHERE o.identity = batch_identity;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'no outbox has the identity %', batch_identity USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        has_another := own.marks AND EXISTS (
            SELECT 1 FROM pg_attribute a WHERE a.attrelid = own.outbox AND a.attname = 'published_at' AND NOT a.attisdropped
               AND own.marked_table = a.attrelid AND own.marked_column <> a.attnum);
    EXCEPTION WHEN lock_not_available THEN
        NULL; -- somebody holds it (VACUUM FULL, a schema file): no batch waits for that
    END;
    IF has_another THEN
        RAISE EXCEPTION 'table % had a column published_at when it was attached, and has another one', own.outbox
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT b.generation, b.number INTO last
      FROM outbox_relay.batch_numbers b WHERE b.identity = batch_identity
     ORDER BY b.generation DESC, b.number DESC LIMIT 1;
    IF FOUND THEN
        want_generation := last.generation;
        want_number := last.number + 1;
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

-- Dates that are no times.
--
-- A `date` goes on to the year 5874897, a timestamptz ends within 294276: one row beyond, and there was no health of its outbox,
-- and no dead letter of it.

-- As in 018, but such dates are no time.
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
                    WHEN bool_or(u.type = 'date'::regtype)
                    THEN format('CASE WHEN NOT isfinite(%1$I) OR %1$I < date ''294276-12-31'' THEN %1$I::timestamptz END', u.name)
                    ELSE format('%I', u.name) END
          FROM under u GROUP BY u.name), 'NULL')
$function$;

-- As in 017, but such dates are no time.
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
    time_value text;
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
    SELECT CASE WHEN a.atttypid = 'date'::regtype
                THEN format('CASE WHEN NOT isfinite((outbox_relay_row).%1$I) OR (outbox_relay_row).%1$I < date ''294276-12-31'' '
                            'THEN (outbox_relay_row).%1$I::timestamptz END', time_name)
                ELSE format('(outbox_relay_row).%I::timestamptz', time_name) END
      INTO time_value FROM pg_attribute a
     WHERE a.attrelid = of_outbox AND a.attname = time_name AND NOT a.attisdropped
       AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype);
    time_value := coalesce(time_value, 'NULL::timestamptz');
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

-- Dead letters of columns that are gone.

-- As in 021, but what the letter has, and the table has no column for any more (renamed, dropped), is an error: it would be gone
-- with the letter. Of a NULL nothing is lost, nor of the row's number under the name that its column had before it was renamed: the
-- one member without a column that has it, in a letter that does not have it under the present name.
CREATE OR REPLACE FUNCTION outbox_relay.retry_dead_letter(
    letter_id bigint, from_table regclass DEFAULT 'public.outbox_dead_letters')
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    letter_outbox text;
    letter_event text;
    letter_seq bigint;
    target regclass;
    letter jsonb;
    seq_name name;
    json_texts jsonb;
    strangers text[];
    former text[];
    mended text;
    column_list text;
    value_list text;
    new_seq bigint;
BEGIN
    EXECUTE format('DELETE FROM %s WHERE dead_letter_id = $1 RETURNING outbox, event_id, seq, event', from_table)
       INTO letter_outbox, letter_event, letter_seq, letter USING letter_id;
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
    SELECT array_agg(e.key ORDER BY e.key), array_agg(e.key) FILTER (WHERE e.value #>> '{}' = letter_seq::text AND NOT letter ? seq_name::text)
      INTO strangers, former FROM jsonb_each(letter - ARRAY['published_at', 'retry_count', 'last_error'] - seq_name::text) e
     WHERE e.value <> 'null' AND e.key NOT LIKE 'outbox\_relay.%'
       AND NOT EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = e.key);
    letter := letter - ARRAY['published_at', 'retry_count', 'last_error'] - seq_name::text;
    IF cardinality(former) = 1 THEN
        strangers := array_remove(strangers, former[1]);
    END IF;
    IF cardinality(strangers) > 0 THEN
        mended := format('(event - %1$L) || jsonb_build_object(''new_name'', event->%1$L)', strangers[1]);
        IF json_texts ? strangers[1] THEN
            mended := mended || format(' || jsonb_build_object(%1$L, (event->%1$L) - %2$L || ''["new_name"]'')', 'outbox_relay.json_texts', strangers[1]);
        END IF;
        RAISE EXCEPTION 'dead letter % has what table % has no column for: %', letter_id, target, array_to_string(strangers, ', ')
            USING ERRCODE = 'undefined_column',
                  HINT = format('If it was renamed: UPDATE %1$s SET event = %2$s WHERE dead_letter_id = %3$s; '
                                'what is not wanted: UPDATE %1$s SET event = event - %4$L::text[] WHERE dead_letter_id = %3$s;',
                                from_table, mended, letter_id, strangers);
    END IF;
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
    PERFORM outbox_relay.note_decision(format('dead letter %s of %s, event %L, is in %s again as seq %s (retry_dead_letter)',
                                              letter_id, from_table, letter_event, target, new_seq));
    RETURN new_seq;
END
$function$;

-- Outboxes that are gone.

-- As in 021, but what has no trigger of the relay is neither locked nor changed: of an outbox that was dropped, a dump keeps the
-- number alone, which on another server may be an index's, or a table's that is somebody else's.
CREATE OR REPLACE FUNCTION outbox_relay.detach_outbox(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s'
AS $function$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = of_outbox AND t.tgname = 'outbox_relay_wakeup'
                  AND t.tgfoid = 'outbox_relay.notify_wakeup()'::regprocedure) THEN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', of_outbox);
        EXECUTE format('DROP TRIGGER IF EXISTS outbox_relay_wakeup ON %s', of_outbox);
    END IF;
    IF EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = of_outbox AND c.relkind IN ('r', 'p')) THEN
        IF EXISTS (SELECT 1 FROM public.outbox_dead_letters d WHERE d.outbox = of_outbox::text)
           AND EXISTS (SELECT 1 FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox) THEN
            RAISE EXCEPTION 'public.outbox_dead_letters still holds events of %', of_outbox
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'Retry or drop them first: outbox-relay dead-letters list.';
        END IF;
    END IF;
    DELETE FROM outbox_relay.batch_numbers b USING outbox_relay.outboxes o
     WHERE b.identity = o.identity AND o.outbox = of_outbox;
    DELETE FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    IF FOUND THEN
        PERFORM outbox_relay.note_decision(format('%s is no outbox any more (detach_outbox)', of_outbox));
    END IF;
END
$function$;

-- Names that leave no room.

-- As in 004, but a table whose name has no room for the rest keeps its beginning and gets its number: PostgreSQL cuts names at 63
-- bytes, so that two tables, or a table and its index, had the same.
CREATE OR REPLACE FUNCTION outbox_relay.seq_index_name(of_outbox regclass)
RETURNS name LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT (CASE WHEN octet_length(c.relname::text) <= 43 THEN c.relname::text
                 ELSE (SELECT left(c.relname::text, max(n)) FROM generate_series(0, 34) n
                        WHERE octet_length(left(c.relname::text, n)) <= 34) || '_' || to_hex(c.oid::bigint) END
            || '_unpublished_seq_idx')::name
      FROM pg_class c WHERE c.oid = of_outbox
$function$;

-- As in 005, but the index is known by what it is, not by its name.
CREATE OR REPLACE PROCEDURE outbox_relay.finish_adoption(of_outbox regclass)
LANGUAGE plpgsql
AS $procedure$
DECLARE
    index_name text;
    index_state boolean;
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF NOT EXISTS (SELECT 1 FROM outbox_relay.adoptions a WHERE a.outbox = of_outbox) THEN
        RETURN;
    END IF;
    SELECT i.indexrelid::pg_catalog.regclass::text, i.indisvalid INTO index_name, index_state
      FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
      CROSS JOIN LATERAL (SELECT pg_catalog.pg_get_expr(i.indpred, i.indrelid)) p (predicate)
     WHERE i.indrelid = of_outbox AND a.attname = 'seq' AND i.indisunique AND i.indnkeyatts = 1
       AND (p.predicate IS NULL OR p.predicate = '(published_at IS NULL)')
     ORDER BY i.indisvalid DESC, p.predicate NULLS LAST LIMIT 1;
    IF index_state IS DISTINCT FROM true THEN
        RAISE EXCEPTION 'index % of % is %', coalesce(index_name, outbox_relay.seq_index_name(of_outbox)::text), of_outbox,
                CASE WHEN index_state IS NULL THEN 'missing' ELSE 'invalid: its CREATE INDEX CONCURRENTLY did not end well' END
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = CASE WHEN index_state IS NULL
                              THEN pg_catalog.format('CREATE UNIQUE INDEX CONCURRENTLY %I ON %s (seq) WHERE published_at IS NULL;',
                                                     outbox_relay.seq_index_name(of_outbox), of_outbox)
                              ELSE pg_catalog.format('REINDEX INDEX CONCURRENTLY %s;', index_name) END
                         || ' Then run the migration again.';
    END IF;
    -- Rows that a session with an explicit NULL, or a restored copy, brought in since.
    CALL outbox_relay.backfill_seq(of_outbox, 5000);
    CALL outbox_relay.run_short_step(of_outbox, 'outbox_relay.add_not_null_check');
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    EXECUTE pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT outbox_relay_seq_not_null', of_outbox);
    COMMIT;
    CALL outbox_relay.run_short_step(of_outbox, 'outbox_relay.set_queue_storage');
    CALL outbox_relay.run_short_step(of_outbox, 'outbox_relay.make_identity');
END
$procedure$;

-- As in 005, but by either name.
CREATE OR REPLACE FUNCTION outbox_relay.drop_invalid_indexes()
RETURNS integer LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s'
AS $function$
DECLARE
    broken regclass;
    dropped integer := 0;
BEGIN
    FOR broken IN
        SELECT i.indexrelid::regclass
          FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
         WHERE NOT i.indisvalid
           AND c.relname IN (outbox_relay.seq_index_name(t.oid), (left(t.relname, 43) || '_unpublished_seq_idx')::name)
           AND i.indrelid IN (SELECT o.outbox FROM outbox_relay.outboxes o UNION SELECT a.outbox FROM outbox_relay.adoptions a)
           AND NOT EXISTS (SELECT 1 FROM pg_stat_progress_create_index p WHERE p.relid = i.indrelid)
    LOOP
        EXECUTE 'DROP INDEX ' || broken::text;
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$function$;

-- The last numbers.

-- As in 021, but numbers near the end of bigint are no error of every outbox that is made: the room is half of what is left at
-- most, and where nothing is left, it is said above whose numbers.
CREATE OR REPLACE FUNCTION outbox_relay.first_free_seq()
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    last_of_all constant numeric := 9223372036854775807;
    highest numeric;
    known record;
    last_seq numeric;
    own numeric;
    whose text;
BEGIN
    -- Of tables that were dropped, too.
    SELECT p.settled_seq, o.outbox::text INTO highest, whose
      FROM outbox_relay.progress p JOIN outbox_relay.outboxes o USING (identity) ORDER BY p.settled_seq DESC LIMIT 1;
    highest := coalesce(highest, 0);
    FOR known IN
        SELECT s.seqrelid::regclass AS numbers, s.seqstart
          FROM outbox_relay.outboxes o
          JOIN pg_attribute a ON a.attrelid = o.outbox AND a.attname = o.seq_column AND NOT a.attisdropped
          JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
               AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
          JOIN pg_sequence s ON s.seqrelid = d.objid
         WHERE has_sequence_privilege(s.seqrelid, 'SELECT')
    LOOP
        EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE last_value - 1 END FROM %s', known.numbers) INTO last_seq;
        own := last_seq + greatest(0, least(last_seq - known.seqstart + 1, trunc((last_of_all - last_seq) / 2)));
        IF own > highest THEN
            highest := own;
            whose := known.numbers::text;
        END IF;
    END LOOP;
    IF highest + 1000 > last_of_all THEN
        RAISE EXCEPTION 'no number is left above those of %', whose
            USING ERRCODE = 'sequence_generator_limit_exceeded',
                  HINT = CASE WHEN whose ~ '^[0-9]+$'
                              THEN format('That table was dropped: SELECT outbox_relay.detach_outbox(%L);', whose) ELSE '' END;
    END IF;
    RETURN CASE WHEN highest = 0 THEN 1 ELSE highest + 1000 END;
END
$function$;

-- As in 020, but at the end of bigint it is said that no number is left; the sum was an error, and with it all of the health.
CREATE OR REPLACE FUNCTION outbox_relay.check_outbox_health(
    outbox regclass, warning_rows bigint, critical_rows bigint, warning_age interval, critical_age interval)
RETURNS TABLE (health_status varchar(20), message text, unpublished_count bigint, oldest_age_seconds bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    counted record;
    oldest timestamptz;
    held bigint;
    parked bigint;
    letters bigint;
    back record;
    level integer := 0;
    why text := '';
BEGIN
    SELECT * INTO counted FROM outbox_relay.count_unpublished(outbox, greatest(warning_rows, critical_rows));
    oldest := counted.oldest;
    SELECT count(*) INTO held FROM outbox_relay.held_aggregates h
      JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1;
    SELECT count(DISTINCT p.topic) INTO parked FROM (
        SELECT t.identity, t.topic FROM outbox_relay.parked_topics t
        UNION ALL
        SELECT e.identity, e.topic FROM outbox_relay.parked_event_types e) p
      JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1;
    IF held + parked > 0 THEN
        SELECT least(oldest, min(w.since)) INTO oldest FROM (
            SELECT h.held_at AS since FROM outbox_relay.held_aggregates h
              JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1
            UNION ALL
            SELECT p.parked_at FROM outbox_relay.parked_topics p
              JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1
            UNION ALL
            SELECT e.parked_at FROM outbox_relay.parked_event_types e
              JOIN outbox_relay.outboxes o USING (identity) WHERE o.outbox = $1) w;
    END IF;
    unpublished_count := counted.unpublished;
    oldest_age_seconds := coalesce(greatest(0, extract(epoch FROM clock_timestamp() - oldest)), 0)::bigint;

    IF unpublished_count > critical_rows THEN
        level := 2;
        why := format(', more than %s', critical_rows);
    ELSIF unpublished_count > warning_rows THEN
        level := 1;
        why := format(', more than %s', warning_rows);
    END IF;
    IF oldest_age_seconds > extract(epoch FROM critical_age) THEN
        level := 2;
        why := why || format(', the oldest is %s s old, more than %s s', oldest_age_seconds, extract(epoch FROM critical_age)::bigint);
    ELSIF oldest_age_seconds > extract(epoch FROM warning_age) THEN
        level := greatest(level, 1);
        why := why || format(', the oldest is %s s old, more than %s s', oldest_age_seconds, extract(epoch FROM warning_age)::bigint);
    END IF;
    SELECT * INTO back FROM outbox_relay.numbers_gone_back(outbox);
    IF held + parked > 0 OR back.numbers IS NOT NULL THEN
        level := greatest(level, 1);
    END IF;

    letters := outbox_relay.count_dead_letters(outbox);
    health_status := (ARRAY['OK', 'WARNING', 'CRITICAL'])[level + 1];
    message := format('%s: %s%s unpublished events%s%s', outbox,
                      CASE WHEN counted.is_exact THEN '' ELSE 'about ' END, unpublished_count,
                      CASE WHEN counted.is_exact THEN '' ELSE ' (estimated from a sample)' END, why);
    IF held > 0 THEN
        message := message || format('; %s aggregates held (their events are not counted)', held);
    END IF;
    IF parked > 0 THEN
        message := message || format('; %s topics parked (their events are not counted)', parked);
    END IF;
    IF letters > 0 THEN
        message := message || format('; %s dead letters', CASE WHEN letters > 1000 THEN 'more than 1000' ELSE letters::text END);
    END IF;
    IF back.numbers IS NOT NULL THEN
        message := message || format('; numbers have gone back to %s, though those up to %s are published: ', back.last_seq, back.settled_seq)
            || CASE WHEN back.settled_seq > 9223372036854774807 THEN 'no number is left above it'
                    ELSE format('SELECT setval(%L, %s)', back.numbers, back.settled_seq + 1000) END;
    END IF;
    RETURN NEXT;
END
$function$;

-- As in 010, with the time zone of 018, but numbers below 0 are counted, too, and from one end of bigint to the other.
CREATE OR REPLACE FUNCTION outbox_relay.count_unpublished(
    of_outbox regclass, exact_up_to bigint,
    OUT unpublished bigint, OUT is_exact boolean, OUT oldest timestamptz, OUT newest timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET row_security = off
SET timezone = 'UTC'
AS $function$
DECLARE
    known outbox_relay.outboxes;
    lowest constant bigint := -9223372036854775808;
    floor_seq bigint;
    numbers regclass;
    unpublished_only text := '';
    first_seq bigint;
    last_seq bigint;
    gap bigint := 0;
    span numeric;
    step bigint;
    width bigint;
    sampled bigint;
BEGIN
    SELECT o.* INTO known FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not an outbox of the relay', of_outbox
            USING ERRCODE = 'undefined_object', HINT = 'Run outbox-relay migrate postgres, or outbox_relay.attach_outbox().';
    END IF;
    SELECT p.settled_seq INTO floor_seq FROM outbox_relay.progress p WHERE p.identity = known.identity;
    numbers := pg_get_serial_sequence(of_outbox::text, known.seq_column);
    IF floor_seq IS NULL
       OR (has_sequence_privilege(numbers, 'USAGE, SELECT') AND floor_seq > coalesce(pg_sequence_last_value(numbers), lowest)) THEN
        floor_seq := lowest;
    END IF;
    IF EXISTS (SELECT 1 FROM pg_attribute a WHERE a.attrelid = of_outbox AND a.attname = 'published_at' AND NOT a.attisdropped) THEN
        unpublished_only := 'AND published_at IS NULL';
    END IF;
    EXECUTE format(
        'SELECT count(*), max(s), min(t) FILTER (WHERE isfinite(t)), max(t) FILTER (WHERE isfinite(t)) '
        'FROM (SELECT %2$I AS s, %3$s::timestamptz AS t FROM %1$s WHERE %2$I > $1 %4$s ORDER BY %2$I DESC LIMIT $2) newest',
        of_outbox, known.seq_column, outbox_relay.time_expression(of_outbox, known.created_at_column), unpublished_only)
    INTO unpublished, last_seq, oldest, newest USING floor_seq, exact_up_to + 1;
    is_exact := unpublished <= exact_up_to;
    IF is_exact THEN
        RETURN;
    END IF;
    EXECUTE format(
        'SELECT %2$I, CASE WHEN isfinite(%3$s::timestamptz) THEN %3$s::timestamptz END '
        'FROM %1$s WHERE %2$I > $1 %4$s ORDER BY %2$I LIMIT 1',
        of_outbox, known.seq_column, outbox_relay.time_expression(of_outbox, known.created_at_column), unpublished_only)
    INTO first_seq, oldest USING floor_seq;
    IF known.gap_from IS NOT NULL AND first_seq < known.gap_from AND last_seq >= known.gap_to THEN
        gap := known.gap_to - known.gap_from;
    END IF;
    span := last_seq::numeric - first_seq + 1 - gap;
    step := greatest(1, div(span, 64));
    width := least(16, step);
    EXECUTE format(
        'SELECT sum(w.n) FROM (SELECT p + CASE WHEN p >= $5 THEN $4 ELSE 0 END AS start '
        '                        FROM generate_series($1, ($1 + 63::numeric * $2)::bigint, $2) p) g CROSS JOIN LATERAL ('
        'SELECT count(*) AS n FROM %1$s WHERE %2$I >= g.start AND %2$I < g.start + $3 %3$s) w',
        of_outbox, known.seq_column, unpublished_only)
    INTO sampled USING first_seq, step, width, gap, coalesce(known.gap_from, 0);
    unpublished := greatest(unpublished, least(span * sampled / (64 * width), 9223372036854775807)::bigint);
END
$function$;
