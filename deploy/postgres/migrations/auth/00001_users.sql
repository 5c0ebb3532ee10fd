-- +goose Up
CREATE VIEW reporting.users AS
SELECT id,
       doc ->> 'email' AS email,
       (doc ->> 'version')::integer AS version,
       reporting.made_at(id) AS made_at,
       (doc ->> 'createdAt')::timestamp with time zone AS created_at,
       (doc ->> 'schema')::integer AS schema
FROM (SELECT split_part(key, '/', 2)::uuid AS id, reporting.document(value) AS doc FROM public.state WHERE key LIKE 'auth||user/%') AS users;
COMMENT ON VIEW reporting.users IS 'Who has signed up. Nothing of their passwords.';
COMMENT ON COLUMN reporting.users.email IS 'In its normal form: lower case, without spaces around it.';
COMMENT ON COLUMN reporting.users.created_at IS 'When they signed up.';
COMMENT ON COLUMN reporting.users.made_at IS 'The time in its id, within some milliseconds of created_at. Filter and sort by it: it has an index.';
COMMENT ON COLUMN reporting.users.schema IS 'Format of the document.';

-- On the key alone: a change of a document leaves these as they are.
CREATE INDEX users_id ON public.state ((split_part(key, '/', 2)::uuid)) WHERE key LIKE 'auth||user/%';
CREATE INDEX users_made_at ON public.state (reporting.made_at(split_part(key, '/', 2)::uuid)) WHERE key LIKE 'auth||user/%';
-- Users never change, so an index on what they hold costs little.
CREATE INDEX users_email ON public.state ((reporting.document(value) ->> 'email')) WHERE key LIKE 'auth||user/%';
