-- +goose Up
CREATE VIEW reporting.order_replicas AS
SELECT id,
       (doc ->> 'userId')::uuid AS buyer_id,
       doc ->> 'status' AS status,
       (doc ->> 'amount')::bigint AS amount,
       doc ->> 'currency' AS currency,
       (doc ->> 'expiresAt')::timestamp with time zone AS expires_at,
       (doc ->> 'paymentId')::uuid AS payment_id,
       (doc ->> 'version')::integer AS version,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'payments||order/%') AS orders;
COMMENT ON VIEW reporting.order_replicas IS 'What payments has heard of each order, and the payment that was begun for it.';
COMMENT ON COLUMN reporting.order_replicas.amount IS 'What is to be paid, in the currency''s minor unit (cents).';
COMMENT ON COLUMN reporting.order_replicas.payment_id IS 'Its payment, or null if none was begun.';
COMMENT ON COLUMN reporting.order_replicas.version IS 'Of the order, as last heard. Lower than in reporting.orders of the orders service is behind.';
