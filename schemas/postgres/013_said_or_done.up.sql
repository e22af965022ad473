-- SPDX-License-Identifier: Apache-2.0
-- What cannot be done is said, and what was asked for in other words is done.

-- As in 001, but a table that is no outbox is an error.
CREATE OR REPLACE FUNCTION outbox_relay.accept_system(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    UPDATE outbox_relay.outboxes o SET system_identifier = c.system_identifier
      FROM pg_control_system() c WHERE o.outbox = of_outbox;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % is not an outbox of the relay', of_outbox USING ERRCODE = 'undefined_object';
    END IF;
END
$function$;

-- As in 002, but off may be said as PostgreSQL's own settings take it.
CREATE OR REPLACE FUNCTION outbox_relay.notify_wakeup()
RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF coalesce(lower(current_setting('outbox_relay.notify', true)), '') NOT IN ('off', 'false', 'no', '0') THEN
        PERFORM pg_notify('outbox_relay_' || TG_RELID::text, '');
    END IF;
    RETURN NULL;
END
$function$;
