-- The service catalogue: it keeps shows, and the read model of what is for sale.
-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'boxoffice_catalogue') THEN
        CREATE ROLE boxoffice_catalogue LOGIN;
    END IF;
END
$$;
-- +goose StatementEnd
