-- Endpoints and deliveries, without secrets and without what was sent.
-- +goose Up
CREATE VIEW reporting.endpoints AS
SELECT (endpoint ->> 'id')::uuid AS id,
       substring(key FROM '[^/]*$')::uuid AS user_id,
       endpoint ->> 'url' AS url,
       endpoint -> 'events' AS events,
       endpoint ->> 'status' AS status,
       endpoint ->> 'disabledReason' AS disabled_reason,
       (endpoint ->> 'disabledAt')::timestamp with time zone AS disabled_at,
       (endpoint ->> 'failingSince')::timestamp with time zone AS failing_since,
       (endpoint ->> 'version')::integer AS version,
       (endpoint ->> 'createdAt')::timestamp with time zone AS created_at,
       (endpoint ->> 'updatedAt')::timestamp with time zone AS updated_at
FROM public.state, jsonb_array_elements(reporting.document(value) -> 'endpoints') AS endpoint
WHERE key LIKE 'webhooks||account/%';
COMMENT ON VIEW reporting.endpoints IS 'The endpoints of users.';
COMMENT ON COLUMN reporting.endpoints.disabled_reason IS 'user or failing.';
COMMENT ON COLUMN reporting.endpoints.failing_since IS 'When the first attempt after the last success failed.';

CREATE VIEW reporting.deliveries AS
SELECT doc ->> 'id' AS id,
       (doc ->> 'endpointId')::uuid AS endpoint_id,
       (doc ->> 'userId')::uuid AS user_id,
       doc ->> 'eventId' AS event_id,
       doc ->> 'eventType' AS event_type,
       (doc ->> 'eventAt')::timestamp with time zone AS event_at,
       doc ->> 'status' AS status,
       (doc ->> 'attempts')::integer AS attempts,
       (doc -> 'lastAttempt' ->> 'at')::timestamp with time zone AS last_attempt_at,
       (doc -> 'lastAttempt' ->> 'status')::integer AS last_status,
       doc -> 'lastAttempt' ->> 'error' AS last_error,
       (doc ->> 'createdAt')::timestamp with time zone AS created_at
FROM (SELECT reporting.document(value) AS doc FROM public.state
      WHERE key LIKE 'webhooks||delivery/%' AND (expires_at IS NULL OR expires_at > now())) AS deliveries;
COMMENT ON VIEW reporting.deliveries IS 'What is delivered to endpoints, for 30 days. Reads all deliveries.';
COMMENT ON COLUMN reporting.deliveries.status IS 'pending, delivered or failed.';
COMMENT ON COLUMN reporting.deliveries.last_status IS 'The status of the endpoint''s last answer, if there was one.';
