#!/usr/bin/env bash
# Writes the passwords and keys that docker-compose.yaml needs into .env, readable by you alone. What is there stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v openssl > /dev/null || { echo "openssl is missing; it makes the passwords and the key that signs." >&2; exit 1; }

umask 077
touch .env
add() { grep -q "^$1=" .env || printf '%s=%s\n' "$1" "$2" >> .env; }
# It begins with a letter, for NATS takes what begins with a digit for a number.
password() { printf 'p%s' "$(openssl rand -hex 24)"; }

for name in APP_API_TOKEN NATS_TOKEN REDIS_PASSWORD STRIPE_WEBHOOK_SECRET GRAFANA_PASSWORD POSTGRES_PASSWORD \
	POSTGRES_PASSWORD_AUTH POSTGRES_PASSWORD_TICKETS POSTGRES_PASSWORD_ORDERS POSTGRES_PASSWORD_PAYMENTS \
	POSTGRES_PASSWORD_EXPIRATION POSTGRES_PASSWORD_GATEWAY POSTGRES_PASSWORD_REPORTING; do
	add "$name" "$(password)"
done
if ! grep -q '^JWT_SIGNING_KEY=' .env; then
	key=$(openssl genpkey -algorithm ed25519)
	add JWT_SIGNING_KEY "\"${key//$'\n'/\\n}\"" # in double quotes, compose makes \n a line's end
fi
