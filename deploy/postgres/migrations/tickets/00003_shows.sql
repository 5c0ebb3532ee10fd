-- A ticket may be for a show.
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
       coalesce((doc ->> 'listed')::integer, (doc ->> 'version')::integer) AS listed_version,
       (doc ->> 'showId')::uuid AS show_id,
       doc #>> '{seat,section}' AS seat_section,
       doc #>> '{seat,row}' AS seat_row,
       doc #>> '{seat,number}' AS seat_number,
       (doc ->> 'faceValue')::bigint AS face_value,
       (doc ->> 'salesEndAt')::timestamp with time zone AS sales_end_at,
       coalesce((doc ->> 'revoked')::boolean, false) AS revoked
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'tickets||ticket/%') AS tickets;
COMMENT ON COLUMN reporting.tickets.show_id IS 'The show that it is for; null if it has none. reporting.shows in the database of catalogue has it.';
COMMENT ON COLUMN reporting.tickets.seat_number IS 'With a number, no other ticket of the show that is not deleted has the same section, row and number.';
COMMENT ON COLUMN reporting.tickets.face_value IS 'In the currency''s minor unit (cents). The cap of the show counts from it.';
COMMENT ON COLUMN reporting.tickets.sales_end_at IS 'When its show starts.';
COMMENT ON COLUMN reporting.tickets.revoked IS 'Whether it is void, because its show was cancelled or another ticket has its place: an order that has it is cancelled and refunded.';
