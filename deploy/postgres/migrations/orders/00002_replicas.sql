-- +goose Up
CREATE VIEW reporting.ticket_replicas AS
SELECT id,
       doc ->> 'title' AS title,
       (doc ->> 'price')::bigint AS price,
       doc ->> 'currency' AS currency,
       coalesce((doc ->> 'deleted')::boolean, false) AS deleted,
       (doc ->> 'version')::integer AS version,
       (doc ->> 'sequence')::integer AS sequence,
       (doc #>> '{reservation,orderId}')::uuid AS order_id,
       doc #>> '{reservation,status}' AS order_status,
       (doc #>> '{reservation,expiresAt}')::timestamp with time zone AS expires_at,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'orders||ticket/%') AS tickets;
COMMENT ON VIEW reporting.ticket_replicas IS 'What orders has heard of each ticket, with the reservation that is decided here.';
COMMENT ON COLUMN reporting.ticket_replicas.version IS 'Of the ticket, as last heard. Lower than in reporting.tickets of the tickets service is behind.';
COMMENT ON COLUMN reporting.ticket_replicas.sequence IS 'Counts the changes of reservation. Higher than in reporting.tickets: tickets is behind.';
COMMENT ON COLUMN reporting.ticket_replicas.order_id IS 'The live order that has the ticket, or null.';
COMMENT ON COLUMN reporting.ticket_replicas.order_status IS 'created or complete; null without an order.';
COMMENT ON COLUMN reporting.ticket_replicas.expires_at IS 'Until when a created order keeps others from it.';

CREATE VIEW reporting.payment_replicas AS
SELECT (doc ->> 'id')::uuid AS id,
       (doc ->> 'orderId')::uuid AS order_id,
       doc ->> 'stripeId' AS stripe_id,
       doc ->> 'status' AS status,
       (doc ->> 'amount')::bigint AS amount,
       doc ->> 'currency' AS currency,
       (doc ->> 'version')::integer AS version,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT reporting.document(value) AS doc FROM public.state WHERE key LIKE 'orders||payment/%') AS payments;
COMMENT ON VIEW reporting.payment_replicas IS 'What orders has heard of each order''s payment.';
COMMENT ON COLUMN reporting.payment_replicas.version IS 'Of the payment, as last heard. Lower than in reporting.payments of the payments service is behind, but for changes that are told to nobody (requires_action).';
