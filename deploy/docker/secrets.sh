#!/usr/bin/env bash
# Writes the passwords and keys that docker-compose.yaml needs into .env, readable by you alone. What is there stays.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v openssl > /dev/null || { echo "openssl is missing; it makes the passwords and the keys that sign." >&2; exit 1; }

umask 077
touch .env
add() { grep -q "^$1=" .env || printf '%s=%s\n' "$1" "$2" >> .env; }
# It begins with a letter, for NATS takes what begins with a digit for a number.
password() { printf 'p%s' "$(openssl rand -hex 24)"; }

for name in REDIS_PASSWORD_ADMIN NATS_PASSWORD_ADMIN STRIPE_WEBHOOK_SECRET GRAFANA_PASSWORD POSTGRES_PASSWORD POSTGRES_PASSWORD_REPORTING; do
	add "$name" "$(password)"
done
# A service has tokens, which it and its sidecar show each other, and users of its own.
for app in GATEWAY AUTH TICKETS ORDERS PAYMENTS EXPIRATION DEAD_LETTERS WEBHOOKS CATALOGUE; do
	for name in APP_API_TOKEN DAPR_API_TOKEN; do
		add "${name}_$app" "$(password)"
	done
	[ "$app" != GATEWAY ] || continue # it keeps nothing and publishes nothing
	for name in POSTGRES_PASSWORD NATS_PASSWORD REDIS_PASSWORD; do
		add "${name}_$app" "$(password)"
	done
done
# The keys that sign tokens (auth) and passes (orders).
for name in JWT_SIGNING_KEY PASS_SIGNING_KEY; do
	grep -q "^$name=" .env && continue
	key=$(openssl genpkey -algorithm ed25519)
	add "$name" "\"${key//$'\n'/\\n}\"" # in double quotes, compose makes \n a line's end
done
grep -q '^PAYMENTS=.' .env || [ -n "${PAYMENTS:-}" ] ||
	echo "Choose in .env how people pay: PAYMENTS=stripe and STRIPE_SECRET_KEY=sk_…, or PAYMENTS=sandbox for payments that move no money."
