-- SPDX-License-Identifier: Apache-2.0
-- Waking the relay without taxing the writers: a NOTIFY holds a lock of the whole cluster over the commit's
-- fsync, so it is sent only while the relay sleeps.
--
-- Advisory locks, two-integer form, first key = the outbox table's oid as integer:
--   (oid, 0)  W: writers try it shared in the trigger's WHEN clause; the relay holds it exclusively while it sleeps
--   (oid, 1)  ownership, slot 0 (a session lock of the first deleting connection)
--   (oid, 2)  ownership, slot 1 (of the second)
--   (oid, 3)  watch: the one replica that judges this outbox's health and sends its alerts

-- Runs only when the WHEN clause could not get W, which means: the relay sleeps, or is about to.
-- outbox_relay.notify = off (ALTER ROLE or ALTER DATABASE ... SET) is for roles that use two-phase commit, where
-- NOTIFY is not allowed; their rows wait for the relay's fallback_poll.
CREATE FUNCTION outbox_relay.notify_wakeup()
RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF current_setting('outbox_relay.notify', true) IS DISTINCT FROM 'off' THEN
        PERFORM pg_notify('outbox_relay_' || TG_RELID::text, '');
    END IF;
    RETURN NULL;
END
$function$;

-- Tries for slice_ms to take W exclusively, as a session lock; true = taken, and every writer that skipped
-- its NOTIFY has ended: poll once more, then block on the socket. False = poll again, then try again.
-- Keep slice_ms below deadlock_timeout: then neither the deadlock detector nor the server's log is disturbed.
-- Taken twice it must be given back twice: pg_advisory_unlock(oid, 0).
CREATE FUNCTION outbox_relay.try_sleep(of_outbox regclass, slice_ms integer)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    PERFORM set_config('lock_timeout', greatest(slice_ms, 1)::text || 'ms', true);
    PERFORM pg_advisory_lock(of_outbox::oid::integer, 0);
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RETURN false;
END
$function$;

-- Creates the trigger on a table, under a name of its own; safe to repeat.
CREATE FUNCTION outbox_relay.create_wakeup_trigger(of_outbox regclass)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    qualified text;
BEGIN
    IF EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = of_outbox AND t.tgname = 'outbox_relay_wakeup') THEN
        RETURN;
    END IF;
    SELECT format('%I.%I', n.nspname, c.relname) INTO qualified
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = of_outbox;
    -- The lock's key is stored as a reference to the table, so that a dump and its restore keep it right.
    EXECUTE format(
        'CREATE TRIGGER outbox_relay_wakeup AFTER INSERT ON %s FOR EACH STATEMENT '
        'WHEN (NOT pg_catalog.pg_try_advisory_xact_lock_shared(%L::regclass::oid::integer, 0)) '
        'EXECUTE FUNCTION outbox_relay.notify_wakeup()', qualified, qualified);
END
$function$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA outbox_relay FROM PUBLIC;
