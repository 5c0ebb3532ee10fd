-- +goose Up
CREATE VIEW reporting.dead_letters AS
SELECT doc ->> 'id' AS id,
       doc ->> 'service' AS service,
       doc ->> 'instance' AS instance,
       doc ->> 'code' AS code,
       doc ->> 'reason' AS reason,
       (doc ->> 'attempts')::integer AS attempts,
       doc ->> 'eventId' AS event_id,
       doc ->> 'eventType' AS event_type,
       (doc ->> 'firstFailure')::timestamp with time zone AS first_failure,
       (doc ->> 'lastFailure')::timestamp with time zone AS last_failure,
       (doc ->> 'takenAt')::timestamp with time zone AS taken_at,
       (doc ->> 'sendings')::integer AS sendings,
       doc ->> 'begun' IS NOT NULL AS sending,
       (doc ->> 'sentAt')::timestamp with time zone AS sent_at,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT reporting.document(value) AS doc FROM public.state WHERE key LIKE 'dead-letters||letter/%') AS letters;
COMMENT ON VIEW reporting.dead_letters IS 'Events that could not be handled, and what was done about them.';
COMMENT ON COLUMN reporting.dead_letters.service IS 'Who could not handle it.';
COMMENT ON COLUMN reporting.dead_letters.code IS 'undecodable, refused, failed or given up.';
COMMENT ON COLUMN reporting.dead_letters.taken_at IS 'When it was taken from the broker into the store.';
COMMENT ON COLUMN reporting.dead_letters.sendings IS 'How often it was sent again; sent_at is the last time.';
COMMENT ON COLUMN reporting.dead_letters.sending IS 'Whether a sending was begun of which it is not known that the broker has it.';
