-- The journal holds each event with the change that caused it, until it is published (services/internal/state/journal.go).
-- A slot is not cleared when its events are out: it is written over by a later change. So what waits for the broker is
-- known to the living writer alone (its metric boxoffice_journal_backlog_events). What these views tell is who writes, how
-- many changes ever waited at once, and what may be lost from sight with a writer that is gone.
-- +goose Up
-- +goose ENVSUB ON
CREATE VIEW reporting.journal_writers AS
SELECT writer,
       listed.instance,
       CASE
           WHEN listed.writer IS NULL THEN 'unlisted'
           WHEN own.written_at IS NULL THEN 'gone'
           WHEN own.closed THEN 'closed'
           WHEN own.written_at < now() - interval '15 seconds' THEN 'silent'
           ELSE 'living'
       END AS state,
       own.written_at AS renewed_at,
       coalesce(slots.slots, 0) AS most_waiting,
       slots.written_at AS last_event_at
FROM (
    SELECT entry ->> 'id' AS writer, entry ->> 'instance' AS instance
    FROM public.state, jsonb_array_elements(nullif(reporting.document(value) -> 'writers', 'null')) AS entry
    WHERE key = '${SERVICE}||journal/writers'
) AS listed
FULL JOIN (
    SELECT split_part(key, '/', 2) AS writer, count(*) AS slots, max(coalesce(updated_at, created_at)) AS written_at
    FROM public.state
    WHERE key LIKE '${SERVICE}||journal/%/%'
    GROUP BY 1
) AS slots USING (writer)
LEFT JOIN (
    SELECT split_part(key, '/', 2) AS writer, coalesce(updated_at, created_at) AS written_at,
           (reporting.document(value) ->> 'closed')::boolean AS closed
    FROM public.state
    WHERE key LIKE '${SERVICE}||journal/%' AND key NOT LIKE '${SERVICE}||journal/%/%' AND key <> '${SERVICE}||journal/writers'
) AS own USING (writer);
COMMENT ON VIEW reporting.journal_writers IS 'The processes that write this service''s journal. A process is one writer; it is gone from here after an orderly end.';
COMMENT ON COLUMN reporting.journal_writers.instance IS 'Where the process runs: its host and port, or its pod.';
COMMENT ON COLUMN reporting.journal_writers.state IS 'living; silent: it has not renewed its lease for 15 s (the default of JOURNAL_LEASE), another process takes over; closed: another process is taking over now; gone: its document is missing, the end of a take-over; unlisted: it has slots and is in no register, which nobody will clear up.';
COMMENT ON COLUMN reporting.journal_writers.renewed_at IS 'When it last showed that it lives, by the clock of the database.';
COMMENT ON COLUMN reporting.journal_writers.most_waiting IS 'The most transactions whose events ever waited for the broker at the same time, since the process began. Not what waits now.';
COMMENT ON COLUMN reporting.journal_writers.last_event_at IS 'When it last committed a change that causes events.';

CREATE VIEW reporting.journal_events_left AS
SELECT w.writer,
       w.instance,
       w.state,
       slot.written_at,
       event ->> 'id' AS event_id,
       event ->> 'type' AS event_type,
       event ->> 'subject' AS subject
FROM reporting.journal_writers AS w
JOIN (
    SELECT split_part(key, '/', 2) AS writer, coalesce(updated_at, created_at) AS written_at, value
    FROM public.state
    WHERE key LIKE '${SERVICE}||journal/%/%'
) AS slot USING (writer),
jsonb_array_elements(reporting.document(slot.value) -> 'events') AS event
WHERE w.state <> 'living';
-- +goose ENVSUB OFF
COMMENT ON VIEW reporting.journal_events_left IS 'The events in the slots of writers that are not living. Each is published already, or will be by who takes over; which of both, nobody can tell, and so it is published again. Rows that stay for minutes say that no process of the service is there to take over.';
COMMENT ON COLUMN reporting.journal_events_left.written_at IS 'When the change that caused it was committed.';
COMMENT ON COLUMN reporting.journal_events_left.subject IS 'What the event is about: the id of its aggregate.';
