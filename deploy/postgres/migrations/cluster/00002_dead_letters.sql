-- Dead letters have a service of their own, and the gateway has no database any more. What the gateway's held is not needed:
-- README.md says what becomes of it.
-- +goose Up
-- +goose StatementBegin
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'boxoffice_dead-letters') THEN
        CREATE ROLE "boxoffice_dead-letters" LOGIN;
    END IF;
END
$$;
-- +goose StatementEnd
