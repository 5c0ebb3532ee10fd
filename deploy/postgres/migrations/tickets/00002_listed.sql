-- A ticket's document says which version its seller made last: the one that is published.
-- +goose Up
CREATE OR REPLACE VIEW reporting.tickets AS
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
       (doc ->> 'schema')::integer AS schema,
       coalesce((doc ->> 'listed')::integer, (doc ->> 'version')::integer) AS listed_version
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'tickets||ticket/%') AS tickets;
COMMENT ON COLUMN reporting.tickets.deleted IS 'Whether it was withdrawn by its seller, and no sale stands against that. Such a ticket is not for sale, whatever its status.';
COMMENT ON COLUMN reporting.tickets.listed_version IS 'The version of the seller''s last change, which orders hears of. Changes of status have versions too.';
