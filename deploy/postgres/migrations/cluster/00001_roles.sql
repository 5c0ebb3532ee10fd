-- A role a service, which will own that service's database, and one for reports. Their passwords are not here: the
-- program sets them from its environment. Nobody of them can make roles or databases.
-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['auth', 'expiration', 'gateway', 'orders', 'payments', 'tickets', 'reporting'] LOOP
        role := 'boxoffice_' || role;
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
            EXECUTE format('CREATE ROLE %I LOGIN', role);
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- Whoever reports reads, and not for ever: a report must not keep old versions of documents from being cleaned up.
ALTER ROLE boxoffice_reporting SET default_transaction_read_only = on;
ALTER ROLE boxoffice_reporting SET statement_timeout = '60s';

-- This database keeps the record of what was done to the server, and is nobody else's business.
REVOKE ALL ON DATABASE boxoffice FROM PUBLIC;
