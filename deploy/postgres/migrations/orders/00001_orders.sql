-- +goose Up
CREATE VIEW reporting.orders AS
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
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'orders||order/%') AS orders;
COMMENT ON VIEW reporting.orders IS 'Every reservation there ever was, and what became of it.';
COMMENT ON COLUMN reporting.orders.status IS 'created, complete or cancelled.';
COMMENT ON COLUMN reporting.orders.reason IS 'Why it was cancelled: user, expired, payment or withdrawn; else null.';
COMMENT ON COLUMN reporting.orders.title IS 'Of the ticket, when it was reserved.';
COMMENT ON COLUMN reporting.orders.price IS 'Of the ticket, when it was reserved: what is paid, in the currency''s minor unit (cents).';
COMMENT ON COLUMN reporting.orders.currency IS 'ISO 4217, in lower case.';
COMMENT ON COLUMN reporting.orders.expires_at IS 'Until when it can be paid. One that is created, and whose time is long over, says that reminders do not fire.';
COMMENT ON COLUMN reporting.orders.sequence IS 'Counts the changes of reservation of the ticket, over all its orders, up to this order''s last.';
COMMENT ON COLUMN reporting.orders.version IS 'Grows by one with every change.';
COMMENT ON COLUMN reporting.orders.updated_at IS 'When it was reserved, completed or cancelled.';
COMMENT ON COLUMN reporting.orders.made_at IS 'The time in its id, within some milliseconds of created_at. Filter and sort by it: it has an index.';
COMMENT ON COLUMN reporting.orders.schema IS 'Format of the document.';

-- On the key alone: a change of a document leaves these as they are.
CREATE INDEX orders_id ON public.state ((split_part(key, '/', 2)::uuid)) WHERE key LIKE 'orders||order/%';
CREATE INDEX orders_made_at ON public.state (reporting.made_at(split_part(key, '/', 2)::uuid)) WHERE key LIKE 'orders||order/%';
