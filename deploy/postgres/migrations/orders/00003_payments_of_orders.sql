-- An order names the payment that completed it; there is no document of the payment any more.
-- +goose Up
CREATE OR REPLACE VIEW reporting.orders AS
SELECT id,
       (doc ->> 'userId')::uuid AS buyer_id,
       doc ->> 'status' AS status,
       doc ->> 'reason' AS reason,
       (doc #>> '{ticket,id}')::uuid AS ticket_id,
       doc #>> '{ticket,title}' AS title,
       (doc #>> '{ticket,price}')::bigint AS price,
       doc #>> '{ticket,currency}' AS currency,
       (doc ->> 'expiresAt')::timestamp with time zone AS expires_at,
       (doc ->> 'sequence')::integer AS sequence,
       (doc ->> 'version')::integer AS version,
       reporting.made_at(id) AS made_at,
       (doc ->> 'createdAt')::timestamp with time zone AS created_at,
       (doc ->> 'updatedAt')::timestamp with time zone AS updated_at,
       (doc ->> 'schema')::integer AS schema,
       (doc ->> 'paymentId')::uuid AS payment_id
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'orders||order/%') AS orders;
COMMENT ON COLUMN reporting.orders.payment_id IS 'Of the payment that completed it; null until then, and of orders that the release before completed.';
COMMENT ON COLUMN reporting.ticket_replicas.version IS 'The seller''s version, as last heard. Lower than listed_version in reporting.tickets of the tickets service is behind.';
COMMENT ON VIEW reporting.payment_replicas IS 'What orders has heard of each order''s payment in the release before. Nothing is added any more.';
