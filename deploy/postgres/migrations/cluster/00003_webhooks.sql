-- The service webhooks: it keeps endpoints and their deliveries.
-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'boxoffice_webhooks') THEN
        CREATE ROLE boxoffice_webhooks LOGIN;
    END IF;
END
$$;
-- +goose StatementEnd
