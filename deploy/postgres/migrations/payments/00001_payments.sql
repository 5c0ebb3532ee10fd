-- +goose Up
CREATE VIEW reporting.payments AS
SELECT id,
       (doc ->> 'orderId')::uuid AS order_id,
       (doc ->> 'userId')::uuid AS buyer_id,
       doc ->> 'stripeId' AS stripe_id,
       doc ->> 'status' AS status,
       (doc ->> 'amount')::bigint AS amount,
       doc ->> 'currency' AS currency,
       doc ->> 'declineCode' AS decline_code,
       (doc #>> '{attempt,number}')::integer AS attempts,
       (doc #>> '{attempt,open}')::boolean AS attempt_open,
       (doc ->> 'version')::integer AS version,
       reporting.made_at(id) AS made_at,
       (doc ->> 'createdAt')::timestamp with time zone AS created_at,
       (doc ->> 'updatedAt')::timestamp with time zone AS updated_at,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'payments||payment/%') AS payments;
COMMENT ON VIEW reporting.payments IS 'The payment of each order that anybody began to pay. Stripe''s word is the truth; this is what was heard of it.';
COMMENT ON COLUMN reporting.payments.stripe_id IS 'The PaymentIntent.';
COMMENT ON COLUMN reporting.payments.status IS 'pending, requires_action, failed: no money yet. authorized: held. captured: taken. voided, refunded: ended without money.';
COMMENT ON COLUMN reporting.payments.amount IS 'In the currency''s minor unit (cents).';
COMMENT ON COLUMN reporting.payments.currency IS 'ISO 4217, in lower case.';
COMMENT ON COLUMN reporting.payments.decline_code IS 'Stripe''s reason, while the status is failed; else null.';
COMMENT ON COLUMN reporting.payments.attempts IS 'How many cards were tried.';
COMMENT ON COLUMN reporting.payments.attempt_open IS 'Whether the outcome of the last one is not known yet.';
COMMENT ON COLUMN reporting.payments.version IS 'Grows by one with every change of status.';
COMMENT ON COLUMN reporting.payments.made_at IS 'The time in its id, within some milliseconds of created_at. Filter and sort by it: it has an index.';
COMMENT ON COLUMN reporting.payments.schema IS 'Format of the document.';

-- On the key alone: a change of a document leaves these as they are.
CREATE INDEX payments_id ON public.state ((split_part(key, '/', 2)::uuid)) WHERE key LIKE 'payments||payment/%';
CREATE INDEX payments_made_at ON public.state (reporting.made_at(split_part(key, '/', 2)::uuid)) WHERE key LIKE 'payments||payment/%';
-- On what is in the document: there are few payments beside all else, and these questions are urgent.
CREATE INDEX payments_order_id ON public.state (((reporting.document(value) ->> 'orderId')::uuid)) WHERE key LIKE 'payments||payment/%';
CREATE INDEX payments_stripe_id ON public.state ((reporting.document(value) ->> 'stripeId')) WHERE key LIKE 'payments||payment/%';
-- Money that is held and not taken is little at any time.
CREATE INDEX payments_authorized ON public.state (reporting.made_at(split_part(key, '/', 2)::uuid))
    WHERE key LIKE 'payments||payment/%' AND reporting.document(value) ->> 'status' = 'authorized';
