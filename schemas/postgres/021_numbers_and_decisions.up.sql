-- SPDX-License-Identifier: Apache-2.0
-- An outbox that is new begins above the numbers of the others, to which aggregates may move from them; a table that a crash
-- empties is refused; and what a person decides is in the server's log, whatever log_statement is.

-- Where the numbers of an outbox that is made now begin: at 1, or above those of all others, with room for each of them to draw
-- as many again, until its writers have moved. With lower numbers the events of an aggregate that moves would be older versions
-- to whoever takes the number for one (ReplacingMergeTree, consumers that drop what they have seen).
CREATE FUNCTION outbox_relay.first_free_seq()
RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    highest bigint;
    known record;
    last_seq bigint;
BEGIN
    -- Of tables that were dropped, too.
    SELECT coalesce(max(p.settled_seq), 0) INTO highest FROM outbox_relay.progress p;
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
        highest := greatest(highest, last_seq, last_seq + (last_seq - known.seqstart + 1));
    END LOOP;
    RETURN CASE WHEN highest = 0 THEN 1 ELSE highest + 1000 END;
END
$function$;
-- It gives nothing but a number, and whoever may call create_outbox needs it.
GRANT EXECUTE ON FUNCTION outbox_relay.first_free_seq() TO PUBLIC;

-- As in 004, but for where the numbers begin.
CREATE OR REPLACE FUNCTION outbox_relay.create_outbox(table_name text)
RETURNS uuid LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    parts text[] := parse_ident(table_name);
    qualified text;
    created regclass;
BEGIN
    IF cardinality(parts) = 1 THEN
        parts := ARRAY['public'] || parts;
    ELSIF cardinality(parts) <> 2 THEN
        RAISE EXCEPTION '% is not a table name of the form schema.table', table_name USING ERRCODE = 'invalid_name';
    END IF;
    qualified := format('%I.%I', parts[1], parts[2]);
    EXECUTE format($table$
        CREATE TABLE %s (
            id             uuid         PRIMARY KEY DEFAULT gen_random_uuid(),
            aggregate_type varchar(255) NOT NULL,
            aggregate_id   uuid         NOT NULL,
            event_type     varchar(255) NOT NULL,
            payload        jsonb        NOT NULL,
            metadata       jsonb,
            created_at     timestamptz  NOT NULL DEFAULT now(),
            published_at   timestamptz,
            retry_count    integer      NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
            last_error     text,
            seq            bigint       NOT NULL GENERATED ALWAYS AS IDENTITY (START WITH %s CACHE 1 NO CYCLE),
            CHECK (published_at IS NULL OR published_at >= created_at)
        )$table$, qualified, outbox_relay.first_free_seq());
    created := qualified::regclass;
    EXECUTE format('CREATE UNIQUE INDEX %I ON %s (seq) WHERE published_at IS NULL',
                   outbox_relay.seq_index_name(created), created);
    EXECUTE format('COMMENT ON TABLE %s IS %L', created,
                   'transactional outbox: insert an event in your own transaction, outbox-relay publishes it');
    PERFORM outbox_relay.set_queue_storage(created);
    RETURN outbox_relay.attach_outbox(created);
END
$function$;

-- A line in the server's log: who, as whom, from where, and what. LOG comes above ERROR there: only who may set log_min_messages, a
-- superuser, can keep it out. What is rolled back afterwards has its line, too.
CREATE FUNCTION outbox_relay.note_decision(what text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    RAISE LOG 'outbox_relay: decision of % (as %, from %, application %): %', session_user, current_user,
        coalesce(host(inet_client_addr()), 'the server itself'), quote_literal(current_setting('application_name')), what;
END
$function$;
-- Who can write SQL can write to the log by DO, too: this gives nobody anything.
GRANT EXECUTE ON FUNCTION outbox_relay.note_decision(text) TO PUBLIC;

-- As in 018, but a table that is unlogged or temporary is refused, and what becomes an outbox is logged.
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
    volatile_table regclass;
    registered boolean;
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
    SELECT c.oid::regclass INTO volatile_table FROM pg_class c
     WHERE c.relpersistence <> 'p' AND c.oid IN (SELECT of_outbox UNION SELECT p.relid FROM pg_partition_tree(of_outbox) p) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'table % is unlogged or temporary: a crash or a failover empties it', volatile_table
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('ALTER TABLE %s SET LOGGED;', volatile_table);
    END IF;
    PERFORM outbox_relay.create_wakeup_trigger(of_outbox);
    INSERT INTO outbox_relay.outboxes (outbox, system_identifier, adopted, seq_column, created_at_column)
    SELECT of_outbox, c.system_identifier, was_adopted, seq_name, time_name FROM pg_control_system() c
    ON CONFLICT (outbox) DO NOTHING;
    registered := FOUND;
    SELECT o.identity INTO found_identity FROM outbox_relay.outboxes o WHERE o.outbox = of_outbox;
    IF registered THEN
        PERFORM outbox_relay.note_decision(format('%s is an outbox, with the identity %s', of_outbox, found_identity));
    END IF;
    RETURN found_identity;
END
$function$;

-- As in 014, but it is logged.
CREATE OR REPLACE FUNCTION outbox_relay.detach_outbox(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET row_security = off SET lock_timeout = '1s'
AS $function$
BEGIN
    IF EXISTS (SELECT 1 FROM pg_class c WHERE c.oid = of_outbox) THEN
        EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', of_outbox);
        EXECUTE format('DROP TRIGGER IF EXISTS outbox_relay_wakeup ON %s', of_outbox);
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

-- As in 001, but it is logged.
CREATE OR REPLACE FUNCTION outbox_relay.begin_generation(batch_identity uuid, base_number bigint)
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
    PERFORM outbox_relay.note_decision(format('%s goes on, with generation %s behind batch number %s (begin_generation)',
        (SELECT o.outbox FROM outbox_relay.outboxes o WHERE o.identity = batch_identity), new_generation, base_number));
    RETURN new_generation;
END
$function$;

-- As in 013, but it is logged.
CREATE OR REPLACE FUNCTION outbox_relay.accept_system(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE outbox_relay.outboxes o SET system_identifier = c.system_identifier
      FROM pg_control_system() c WHERE o.outbox = of_outbox;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not an outbox of the relay', of_outbox USING ERRCODE = 'undefined_object';
    END IF;
    PERFORM outbox_relay.note_decision(format('%s belongs to this server now (accept_system)', of_outbox));
END
$function$;

-- As in 001, but it is logged.
CREATE OR REPLACE FUNCTION outbox_relay.renew_identity(of_outbox regclass)
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
    PERFORM outbox_relay.note_decision(
        format('%s has the identity %s, no longer %s (renew_identity)', of_outbox, new_identity, old_identity));
    RETURN new_identity;
END
$function$;

-- As in 018, but it is logged.
CREATE OR REPLACE FUNCTION outbox_relay.retry_dead_letter(
    letter_id bigint, from_table regclass DEFAULT 'public.outbox_dead_letters')
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    letter_outbox text;
    letter_event text;
    target regclass;
    letter jsonb;
    seq_name name;
    json_texts jsonb;
    column_list text;
    value_list text;
    new_seq bigint;
BEGIN
    EXECUTE format('DELETE FROM %s WHERE dead_letter_id = $1 RETURNING outbox, event_id, event', from_table)
       INTO letter_outbox, letter_event, letter USING letter_id;
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
    PERFORM outbox_relay.note_decision(format('dead letter %s of %s, event %L, is in %s again as seq %s (retry_dead_letter)',
                                              letter_id, from_table, letter_event, target, new_seq));
    RETURN new_seq;
END
$function$;

-- Drops a dead letter for good, and logs it: `dead-letters drop`. false: there is none of that number. With the caller's rights,
-- so that it gives nobody anything.
CREATE FUNCTION outbox_relay.drop_dead_letter(letter_id bigint, from_table regclass DEFAULT 'public.outbox_dead_letters')
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    letter record;
BEGIN
    EXECUTE format('DELETE FROM %s WHERE dead_letter_id = $1 RETURNING outbox, event_id', from_table) INTO letter USING letter_id;
    IF letter.outbox IS NULL THEN
        RETURN false;
    END IF;
    PERFORM outbox_relay.note_decision(format('dead letter %s of %s, event %L of %s, is dropped (drop_dead_letter)',
                                              letter_id, from_table, letter.event_id, letter.outbox));
    RETURN true;
END
$function$;
GRANT EXECUTE ON FUNCTION outbox_relay.drop_dead_letter(bigint, regclass) TO PUBLIC;
