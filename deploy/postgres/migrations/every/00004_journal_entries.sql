-- The journal has a registry of writers under another key, and an entry for each transaction, which is deleted once its
-- events are published (services/internal/state/journal.go). What the release before has left there is shown, too. A fence
-- holds no events and belongs to nobody who lives; it is left out.
-- +goose Up
DROP VIEW reporting.journal_events_left;
DROP VIEW reporting.journal_writers;

-- +goose ENVSUB ON
CREATE VIEW reporting.journal_writers AS
SELECT writer,
       listed.instance,
       listed.partition,
       CASE
           WHEN listed.writer IS NULL THEN 'unlisted'
           WHEN own.written_at IS NULL THEN 'gone'
           WHEN own.closed THEN 'closed'
           WHEN own.written_at < now() - interval '15 seconds' THEN 'silent'
           ELSE 'living'
       END AS state,
       own.written_at AS renewed_at,
       coalesce(entries.entries, 0) AS entries,
       entries.written_at AS last_commit_at
FROM (
    SELECT entry ->> 'id' AS writer, entry ->> 'instance' AS instance, (entry ->> 'partition')::integer AS partition
    FROM public.state, jsonb_array_elements(nullif(reporting.document(value) -> 'writers', 'null')) AS entry
    WHERE key IN ('${SERVICE}||journal/registry', '${SERVICE}||journal/writers')
) AS listed
FULL JOIN (
    SELECT split_part(key, '/', 2) AS writer, count(*) AS entries, max(coalesce(updated_at, created_at)) AS written_at
    FROM public.state
    WHERE key LIKE '${SERVICE}||journal/%/%' AND NOT coalesce((reporting.document(value) ->> 'fence')::boolean, false)
    GROUP BY 1
) AS entries USING (writer)
LEFT JOIN (
    SELECT split_part(key, '/', 2) AS writer, coalesce(updated_at, created_at) AS written_at,
           (reporting.document(value) ->> 'closed')::boolean AS closed
    FROM public.state
    WHERE key LIKE '${SERVICE}||journal/%' AND key NOT LIKE '${SERVICE}||journal/%/%'
) AS own USING (writer);
COMMENT ON VIEW reporting.journal_writers IS 'The writers of this service''s journal. A process has one or more; they are gone from here after an orderly end.';
COMMENT ON COLUMN reporting.journal_writers.instance IS 'Where its process runs: the host and port, or the pod.';
COMMENT ON COLUMN reporting.journal_writers.partition IS 'The partition of every index to which it appends; null for one of the release before.';
COMMENT ON COLUMN reporting.journal_writers.state IS 'living; silent: it has not renewed its lease for 15 s (the default of JOURNAL_LEASE), another process takes over; closed: another process is taking over now; gone: its document is missing, the end of a takeover; unlisted: it has entries and is in no registry, which nobody will clear up.';
COMMENT ON COLUMN reporting.journal_writers.renewed_at IS 'When it last renewed its lease, by the clock of the database.';
COMMENT ON COLUMN reporting.journal_writers.entries IS 'Its transactions whose events wait for the broker, and a few whose entries its next transactions delete. (Of one of the release before: the most that ever waited at once.)';
COMMENT ON COLUMN reporting.journal_writers.last_commit_at IS 'When it last committed a transaction.';

CREATE VIEW reporting.journal_events_left AS
SELECT w.writer,
       w.instance,
       w.state,
       entry.written_at,
       event ->> 'id' AS event_id,
       event ->> 'type' AS event_type,
       event ->> 'subject' AS subject
FROM reporting.journal_writers AS w
JOIN (
    SELECT split_part(key, '/', 2) AS writer, coalesce(updated_at, created_at) AS written_at, value
    FROM public.state
    WHERE key LIKE '${SERVICE}||journal/%/%'
) AS entry USING (writer),
jsonb_array_elements(reporting.document(entry.value) -> 'events') AS event
WHERE w.state <> 'living';
-- +goose ENVSUB OFF
COMMENT ON VIEW reporting.journal_events_left IS 'The events in the entries of writers that are not living. Each is published already, or will be by who takes over; which of both, nobody can tell, and so it is published again. Rows that stay for minutes say that no process of the service is there to take over.';
COMMENT ON COLUMN reporting.journal_events_left.written_at IS 'When the change that caused it was committed.';
COMMENT ON COLUMN reporting.journal_events_left.subject IS 'What the event is about: the id of its aggregate.';
