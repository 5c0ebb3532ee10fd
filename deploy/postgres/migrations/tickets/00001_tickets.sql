-- +goose Up
CREATE VIEW reporting.tickets AS
SELECT id,
       doc ->> 'title' AS title,
       (doc ->> 'price')::bigint AS price,
       doc ->> 'currency' AS currency,
       (doc ->> 'userId')::uuid AS seller_id,
       doc ->> 'status' AS status,
       (doc ->> 'orderId')::uuid AS order_id,
       coalesce((doc ->> 'deleted')::boolean, false) AS deleted,
       (doc ->> 'sequence')::integer AS sequence,
       (doc ->> 'version')::integer AS version,
       reporting.made_at(id) AS made_at,
       (doc ->> 'createdAt')::timestamp with time zone AS created_at,
       (doc ->> 'updatedAt')::timestamp with time zone AS updated_at,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'tickets||ticket/%') AS tickets;
COMMENT ON VIEW reporting.tickets IS 'What is or was for sale, as the tickets service shows it.';
COMMENT ON COLUMN reporting.tickets.price IS 'In the currency''s minor unit (cents).';
COMMENT ON COLUMN reporting.tickets.currency IS 'ISO 4217, in lower case.';
COMMENT ON COLUMN reporting.tickets.status IS 'available, reserved or sold.';
COMMENT ON COLUMN reporting.tickets.order_id IS 'The order that has it; null while it is available.';
COMMENT ON COLUMN reporting.tickets.deleted IS 'Whether the seller has withdrawn it. Such a ticket is not for sale, whatever its status.';
COMMENT ON COLUMN reporting.tickets.sequence IS 'Of the last change of reservation that was heard from orders.';
COMMENT ON COLUMN reporting.tickets.version IS 'Grows by one with every change.';
COMMENT ON COLUMN reporting.tickets.made_at IS 'The time in its id, within some milliseconds of created_at. Filter and sort by it: it has an index.';
COMMENT ON COLUMN reporting.tickets.schema IS 'Format of the document.';

-- On the key alone: a change of a document leaves these as they are.
CREATE INDEX tickets_id ON public.state ((split_part(key, '/', 2)::uuid)) WHERE key LIKE 'tickets||ticket/%';
CREATE INDEX tickets_made_at ON public.state (reporting.made_at(split_part(key, '/', 2)::uuid)) WHERE key LIKE 'tickets||ticket/%';
