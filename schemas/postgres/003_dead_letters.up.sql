-- SPDX-License-Identifier: Apache-2.0
-- Where events go that can never be published: whole, with the reason, and a way back.

CREATE TABLE public.outbox_dead_letters (
    dead_letter_id  bigint       GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    outbox          text         NOT NULL,
    event_id        text         NOT NULL,
    aggregate_type  text,
    aggregate_id    text,
    event_type      text,
    seq             bigint       NOT NULL,
    event_created_at timestamptz,
    -- The whole row of the outbox table, whatever its columns are; retry puts it back from here.
    event           jsonb        NOT NULL,
    reason_code     text         NOT NULL,
    reason_text     text         NOT NULL,
    first_failed_at timestamptz  NOT NULL DEFAULT now(),
    last_failed_at  timestamptz  NOT NULL DEFAULT now(),
    attempts        integer      NOT NULL DEFAULT 1 CHECK (attempts >= 1)
);
CREATE INDEX outbox_dead_letters_outbox_idx ON public.outbox_dead_letters (outbox, last_failed_at);
CREATE INDEX outbox_dead_letters_event_type_idx ON public.outbox_dead_letters (event_type, last_failed_at);
CREATE INDEX outbox_dead_letters_event_id_idx ON public.outbox_dead_letters (event_id);
COMMENT ON TABLE public.outbox_dead_letters IS 'events that outbox-relay could not publish, with the reason; outbox-relay dead-letters lists and retries them';

-- Moves one row from its outbox into the dead letters, in the caller's transaction. Returns the new
-- dead_letter_id, or NULL if there is no unpublished row with that seq. An event that fails again after a
-- retry keeps its first_failed_at in first_failed_at, if the caller passes it.
--
-- It must not fail because of what is in the row, since the relay could not go past it: an event without an id goes by
-- its seq, a time of another type is left out, texts that an index could not take are cut (the whole is in event), and
-- where a column of type json holds what jsonb cannot (\u0000, a number beyond numeric) all such columns are kept as
-- texts, named in the member outbox_relay.json_texts.
CREATE FUNCTION outbox_relay.dead_letter(
    of_outbox regclass, event_seq bigint, code text, reason text, tries integer,
    first_failed timestamptz DEFAULT NULL,
    into_table regclass DEFAULT 'public.outbox_dead_letters')
RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $function$
DECLARE
    seq_name name;
    time_name name;
    time_value text := 'NULL::timestamptz';
    only_unpublished text := '';
    json_names text[];
    texts text;
    query text;
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
        time_value := format('(gone.t).%I::timestamptz', time_name);
    END IF;
    query := format(
        'WITH gone AS (DELETE FROM %1$s t WHERE %2$I = $1 %3$s RETURNING t), '
        'letter AS (SELECT %5$s AS created, %%s AS event FROM gone) '
        'INSERT INTO %4$s (outbox, event_id, aggregate_type, aggregate_id, event_type, seq, event_created_at, '
        '                  event, reason_code, reason_text, first_failed_at, attempts) '
        'SELECT $2, left(coalesce(event->>''id'', event->>''event_id'', $1::text), 500), '
        '       coalesce(event->>''aggregate_type'', event->>''aggregatetype''), '
        '       coalesce(event->>''aggregate_id'', event->>''aggregateid''), '
        '       left(coalesce(event->>''event_type'', event->>''type''), 500), $1, created, '
        '       event, $3, $4, coalesce($5, now()), $6 FROM letter RETURNING dead_letter_id',
        of_outbox, seq_name, only_unpublished, into_table, time_value);
    BEGIN
        EXECUTE replace(query, '%s', 'to_jsonb(t)') INTO new_id
          USING event_seq, of_outbox::text, code, reason, first_failed, greatest(tries, 1);
    EXCEPTION WHEN data_exception THEN
        SELECT array_agg(a.attname::text), string_agg(format('%L, (t).%I::text', a.attname, a.attname), ', ')
          INTO json_names, texts
          FROM pg_attribute a
         WHERE a.attrelid = of_outbox AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid = 'json'::regtype;
        IF json_names IS NULL THEN
            RAISE;
        END IF;
        -- The row without these columns, and then they as texts.
        SELECT format('(SELECT to_jsonb(r) FROM (SELECT %s) r)', string_agg(format('(t).%I', a.attname), ', '))
               || format(' || jsonb_build_object(%s, ''outbox_relay.json_texts'', %L::jsonb)', texts, to_jsonb(json_names))
          INTO texts
          FROM pg_attribute a
         WHERE a.attrelid = of_outbox AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid <> 'json'::regtype;
        EXECUTE replace(query, '%s', texts) INTO new_id
          USING event_seq, of_outbox::text, code, reason, first_failed, greatest(tries, 1);
    END;
    RETURN new_id;
END
$function$;

-- Puts a dead letter back into its outbox, with its id and created_at but a new seq (its old one lies below
-- what the relay has settled), and wakes the relay. Returns the new seq, or NULL if there is no such dead letter.
CREATE FUNCTION outbox_relay.retry_dead_letter(
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
    json_texts := coalesce(letter->'outbox_relay.json_texts', '[]');
    letter := letter - ARRAY['published_at', 'retry_count', 'last_error'] - seq_name::text;
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum),
           string_agg(CASE WHEN json_texts ? a.attname THEN format('($1->>%L)::json', a.attname)
                           ELSE quote_ident(a.attname) END, ', ' ORDER BY a.attnum)
      INTO column_list, value_list
      FROM pg_attribute a
     WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
       AND letter ? a.attname;
    EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %4$s FROM jsonb_populate_record(NULL::%1$s, $1) RETURNING %3$I',
                   target, column_list, seq_name, value_list)
       INTO new_seq USING letter;
    PERFORM pg_notify('outbox_relay_' || target::oid::text, '');
    RETURN new_seq;
END
$function$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox_relay FROM PUBLIC;
