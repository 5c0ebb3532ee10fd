#!/usr/bin/env bash
# A menu of the most used make targets. Before it starts one, it checks that the needed programs are installed.
set -euo pipefail
cd "$(dirname "$0")"

need() {
	local program
	for program in "$@"; do
		command -v "$program" > /dev/null || { echo "  This needs $program, which is not installed."; return 1; }
	done
}
need_engine() {
	need docker openssl || return 1
	docker compose version > /dev/null 2>&1 || { echo "  This needs docker's compose plugin, which is not installed."; return 1; }
	docker info > /dev/null 2>&1 || { echo "  docker is installed, but its engine does not answer."; return 1; }
}
free() {
	if (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null; then
		echo "  Another program listens on port $1."
		return 1
	fi
}

choose() {
	case "$1" in
	1) need go git make && free "${PORT:-8080}" && make run ;;
	2) need go git make && make dev-infra ;;
	3)
		need go git make || return 0
		[ -f .state/dev-infra.pid ] || { echo "  First start the servers (2)."; return 0; }
		read -rp "  Which service (auth, tickets, orders, payments, expiration, dead-letters, catalogue, webhooks, gateway)? " service
		[ -f "services/$service/main.go" ] || [ -f "services/$service/src/main.ts" ] || { echo "  There is no service $service."; return 0; }
		make "dev-$service"
		;;
	4) make dev-infra-down ;;
	5) need_engine && make docker-secrets docker-build-all ;;
	6)
		# Without a setting and without a key, payments go to the sandbox. With a key, compose requires the setting.
		[ -n "${STRIPE_SECRET_KEY:-}" ] || grep -qsE '^(PAYMENTS|STRIPE_SECRET_KEY)=.' .env || export PAYMENTS="${PAYMENTS:-sandbox}"
		need_engine && free "${GATEWAY_PORT:-8080}" && make docker-secrets && docker compose up -d --wait
		;;
	7) need_engine && PAYMENTS="${PAYMENTS:-sandbox}" docker compose down ;;
	8) need go git make && make test ;;
	9) need go git make && make lint ;;
	q | "") exit 0 ;;
	*) echo "  There is no $1." ;;
	esac
}

# Ctrl-C ends the target, and not the menu.
trap : INT
while true; do
	cat << 'MENU'

The box office
  1  run everything here, until Ctrl-C     5  build all images
  2  start the servers alone               6  start everything in containers
  3  run one service, rebuilt on change    7  stop the containers (volumes stay)
  4  stop the servers                      8  run all tests
                                           9  lint                    q  quit
MENU
	read -rp "> " choice || exit 0
	choose "$choice" || true
done
