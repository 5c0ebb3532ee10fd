-- This database is its service's. Of all others, only the reporting role may enter.
-- +goose Up
-- +goose ENVSUB ON
REVOKE ALL ON DATABASE "boxoffice_${SERVICE}" FROM PUBLIC;
GRANT CONNECT ON DATABASE "boxoffice_${SERVICE}" TO boxoffice_reporting;
-- +goose ENVSUB OFF
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- Dapr's table of documents (state.postgresql, version 2), here because views need it. It is what Dapr 1.18 makes at its
-- first start, but for the index on expires_at and the column row_id: Dapr finds the table and adds these. A database
-- that Dapr has used before has the table already.
CREATE TABLE IF NOT EXISTS public.state (
    key        text NOT NULL PRIMARY KEY,
    value      bytea NOT NULL,
    etag       uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamp with time zone NOT NULL DEFAULT now(),
    updated_at timestamp with time zone,
    expires_at timestamp with time zone
);
