-- A payment is part of its order's document, and has its id. Those of former releases have documents and ids of their own
-- until they change; then their document (schema 2) says only where they are.
-- +goose Up
CREATE OR REPLACE VIEW reporting.payments AS
SELECT id,
       id AS order_id,
       (doc ->> 'userId')::uuid AS buyer_id,
       doc #>> '{payment,stripeId}' AS stripe_id,
       doc #>> '{payment,status}' AS status,
       (doc ->> 'amount')::bigint AS amount,
       doc ->> 'currency' AS currency,
       doc #>> '{payment,declineCode}' AS decline_code,
       (doc #>> '{payment,attempt,number}')::integer AS attempts,
       (doc #>> '{payment,attempt,open}')::boolean AS attempt_open,
       (doc #>> '{payment,version}')::integer AS version,
       reporting.made_at(id) AS made_at,
       (doc #>> '{payment,createdAt}')::timestamp with time zone AS created_at,
       (doc #>> '{payment,updatedAt}')::timestamp with time zone AS updated_at,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'payments||order/%') AS orders
WHERE doc #>> '{payment,id}' = id::text
UNION ALL
SELECT id,
       (doc ->> 'orderId')::uuid,
       (doc ->> 'userId')::uuid,
       doc ->> 'stripeId',
       doc ->> 'status',
       (doc ->> 'amount')::bigint,
       doc ->> 'currency',
       doc ->> 'declineCode',
       (doc #>> '{attempt,number}')::integer,
       (doc #>> '{attempt,open}')::boolean,
       (doc ->> 'version')::integer,
       reporting.made_at(id),
       (doc ->> 'createdAt')::timestamp with time zone,
       (doc ->> 'updatedAt')::timestamp with time zone,
       (doc ->> 'schema')::integer
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'payments||payment/%') AS payments
WHERE (doc ->> 'schema')::integer = 1
UNION ALL
SELECT moved.id,
       (moved.doc ->> 'orderId')::uuid,
       (orders.doc ->> 'userId')::uuid,
       orders.doc #>> '{payment,stripeId}',
       orders.doc #>> '{payment,status}',
       (orders.doc ->> 'amount')::bigint,
       orders.doc ->> 'currency',
       orders.doc #>> '{payment,declineCode}',
       (orders.doc #>> '{payment,attempt,number}')::integer,
       (orders.doc #>> '{payment,attempt,open}')::boolean,
       (orders.doc #>> '{payment,version}')::integer,
       reporting.made_at(moved.id),
       (orders.doc #>> '{payment,createdAt}')::timestamp with time zone,
       (orders.doc #>> '{payment,updatedAt}')::timestamp with time zone,
       (orders.doc ->> 'schema')::integer
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'payments||payment/%') AS moved
JOIN LATERAL (SELECT reporting.document(value) AS doc FROM public.state WHERE key = 'payments||order/' || (moved.doc ->> 'orderId')) AS orders ON true
WHERE (moved.doc ->> 'schema')::integer = 2;
COMMENT ON COLUMN reporting.payments.made_at IS 'The time in its id: when its order was made, or, of a payment with an id of its own, within some milliseconds of created_at. Filter and sort by it: it has an index.';

CREATE OR REPLACE VIEW reporting.order_replicas AS
SELECT id,
       (doc ->> 'userId')::uuid AS buyer_id,
       doc ->> 'status' AS status,
       (doc ->> 'amount')::bigint AS amount,
       doc ->> 'currency' AS currency,
       (doc ->> 'expiresAt')::timestamp with time zone AS expires_at,
       COALESCE(doc #>> '{payment,id}', doc ->> 'paymentId')::uuid AS payment_id,
       (doc ->> 'version')::integer AS version,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'payments||order/%') AS orders;

-- On the key alone: a change of a document leaves these as they are.
CREATE INDEX order_payments_id ON public.state ((split_part(key, '/', 2)::uuid)) WHERE key LIKE 'payments||order/%';
CREATE INDEX order_payments_made_at ON public.state (reporting.made_at(split_part(key, '/', 2)::uuid)) WHERE key LIKE 'payments||order/%';
-- On what is in the document: these questions are urgent.
CREATE INDEX order_payments_stripe_id ON public.state ((reporting.document(value) #>> '{payment,stripeId}')) WHERE key LIKE 'payments||order/%';
CREATE INDEX order_payments_authorized ON public.state (reporting.made_at(split_part(key, '/', 2)::uuid))
    WHERE key LIKE 'payments||order/%' AND reporting.document(value) #>> '{payment,status}' = 'authorized';
