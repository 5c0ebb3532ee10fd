-- Reports are views in a schema of their own, which are all that the reporting role may read.
-- +goose Up
CREATE SCHEMA reporting;
GRANT USAGE ON SCHEMA reporting TO boxoffice_reporting;
ALTER DEFAULT PRIVILEGES IN SCHEMA reporting GRANT SELECT ON TABLES TO boxoffice_reporting;

CREATE FUNCTION reporting.document(value bytea) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN convert_from(value, 'UTF8')::jsonb;
COMMENT ON FUNCTION reporting.document IS 'A document as JSON; Dapr keeps it as bytes.';

CREATE FUNCTION reporting.made_at(id uuid) RETURNS timestamp with time zone
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0);
COMMENT ON FUNCTION reporting.made_at IS 'The time that an id holds (UUIDv7), in milliseconds.';

CREATE VIEW reporting.formats AS
SELECT split_part(regexp_replace(key, '^[^|]*\|\|', ''), '/', 1) AS kind,
       (reporting.document(value) ->> 'schema')::integer AS schema,
       count(*) AS documents
FROM public.state
WHERE expires_at IS NULL OR expires_at > now()
GROUP BY 1, 2;
COMMENT ON VIEW reporting.formats IS 'How many documents there are of each kind, in which format. Reads all documents. A service may forget how to read a format when this shows none in it.';
COMMENT ON COLUMN reporting.formats.kind IS 'First part of the documents'' keys; index pages and the journal are kinds of their own.';
COMMENT ON COLUMN reporting.formats.schema IS 'Number of the format.';
