-- Shows. The read model of what is for sale has no view: its documents are a feed of changes. Tickets and orders have the originals.
-- +goose Up
CREATE VIEW reporting.shows AS
SELECT id,
       doc ->> 'name' AS name,
       doc ->> 'venue' AS venue,
       doc ->> 'city' AS city,
       doc ->> 'country' AS country,
       (doc ->> 'startsAt')::timestamp with time zone AS starts_at,
       doc ->> 'timeZone' AS time_zone,
       doc ->> 'category' AS category,
       doc ->> 'description' AS description,
       (doc ->> 'maxMarkup')::integer AS max_markup,
       doc ? 'image' AS has_image,
       (doc ->> 'userId')::uuid AS owner_id,
       CASE WHEN coalesce((doc ->> 'cancelled')::boolean, false) THEN 'cancelled' ELSE 'scheduled' END AS status,
       (doc ->> 'version')::integer AS version,
       reporting.made_at(id) AS made_at,
       (doc ->> 'createdAt')::timestamp with time zone AS created_at,
       (doc ->> 'updatedAt')::timestamp with time zone AS updated_at,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'catalogue||show/%') AS shows;
COMMENT ON VIEW reporting.shows IS 'The shows, also those that have started or are cancelled.';
COMMENT ON COLUMN reporting.shows.country IS 'ISO 3166-1, two letters in upper case.';
COMMENT ON COLUMN reporting.shows.time_zone IS 'Of the venue, a name of the IANA database.';
COMMENT ON COLUMN reporting.shows.max_markup IS 'By how many percent a price may exceed the face value; null is by any.';
COMMENT ON COLUMN reporting.shows.owner_id IS 'The user who announced it.';
COMMENT ON COLUMN reporting.shows.status IS 'scheduled or cancelled.';
COMMENT ON COLUMN reporting.shows.version IS 'Grows by one with every change.';
COMMENT ON COLUMN reporting.shows.made_at IS 'The time in its id, within some milliseconds of created_at. Filter and sort by it: it has an index.';
COMMENT ON COLUMN reporting.shows.schema IS 'Format of the document.';

-- On the key alone: a change of a document leaves these as they are.
CREATE INDEX shows_id ON public.state ((split_part(key, '/', 2)::uuid)) WHERE key LIKE 'catalogue||show/%';
CREATE INDEX shows_made_at ON public.state (reporting.made_at(split_part(key, '/', 2)::uuid)) WHERE key LIKE 'catalogue||show/%';
