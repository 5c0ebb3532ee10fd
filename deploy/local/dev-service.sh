#!/usr/bin/env bash
# Runs one service of dapr.yaml (SERVICE) with its sidecar, and the service again when a file changes, until Ctrl-C or until
# the sidecar ends: make dev-tickets. Needs make dev-infra.
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${SERVICE:?which service?}" "${AIR:?the module that builds it again}"
[ -f .state/env ] || { echo "First: make dev-infra" >&2; exit 1; }
set -a
. .state/env
set +a

# The app's block of the run file: its ports, and what its environment adds.
setting() { awk -v app="$SERVICE" -v key="$1:" '/appID:/ { at = ($3 == app) } at && $1 == key { print $2 }' dapr.yaml; }
app_port=$(setting appPort)
[ -n "$app_port" ] || { echo "dapr.yaml has no app $SERVICE" >&2; exit 1; }
config=$(setting configFilePath)
config=${config:-components/embedded/config.yaml}
while read -r name value; do
	[ -n "${!name:-}" ] || export "$name=$value" # what is set already wins
done < <(awk -v app="$SERVICE" '/appID:/ { at = ($3 == app); env = 0 } at && $1 == "env:" { env = 1; next }
	at && env && $1 ~ /^[A-Z_]+:$/ { sub(":", "", $1); print $1, $2 }' dapr.yaml)
export NAMESPACE=default
GOBIN=$PWD/.build go install "$AIR" # not go run, which would pass no signal on
export APP_PORT=$app_port DAPR_GRPC_PORT DAPR_HTTP_PORT
DAPR_GRPC_PORT=$(setting daprGRPCPort)
DAPR_HTTP_PORT=$(setting daprHTTPPort)

# Each in a process group of its own, so that Ctrl-C reaches this script alone, and air ends the service alone: the sidecar
# lives on while the service is built anew, and ends after it. So the service can always publish what it has.
set -m
stop() {
	trap '' INT TERM
	kill "${air:-}" 2> /dev/null && wait "$air" || true
	kill "$sidecar" 2> /dev/null && wait "$sidecar" || true
}
trap 'exit 0' INT TERM
.build/runtime daprd --app-id "$SERVICE" --app-port "$app_port" --app-protocol http \
	--dapr-http-port "$DAPR_HTTP_PORT" --dapr-grpc-port "$DAPR_GRPC_PORT" \
	--dapr-internal-grpc-port "$(setting daprInternalGRPCPort)" --dapr-internal-grpc-listen-address 127.0.0.1 \
	--dapr-listen-addresses 127.0.0.1 --metrics-port "$(setting metricsPort)" --metrics-listen-address 127.0.0.1 \
	--config "$config" --enable-mtls --sentry-address "127.0.0.1:${SENTRY_PORT:-50001}" --resources-path components/embedded --resources-path components/events \
	--enable-app-health-check --app-health-check-path /healthz --app-health-probe-interval 1 \
	--app-health-probe-timeout 900 --app-health-threshold 5 --log-level warn \
	--placement-host-address "127.0.0.1:${PLACEMENT_PORT:-50005}" --scheduler-host-address "127.0.0.1:${SCHEDULER_PORT:-50006}" &
sidecar=$!
trap stop EXIT
.build/air -c .air.toml --build.entrypoint ".build/dev/$SERVICE" < /dev/null &
air=$!
wait -n
