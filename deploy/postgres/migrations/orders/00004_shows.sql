-- An order's ticket may be for a show.
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
       (doc ->> 'paymentId')::uuid AS payment_id,
       (doc #>> '{ticket,showId}')::uuid AS show_id,
       doc #>> '{ticket,seat,section}' AS seat_section,
       doc #>> '{ticket,seat,row}' AS seat_row,
       doc #>> '{ticket,seat,number}' AS seat_number
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'orders||order/%') AS orders;
COMMENT ON COLUMN reporting.orders.show_id IS 'The show that its ticket is for; null if it has none.';
