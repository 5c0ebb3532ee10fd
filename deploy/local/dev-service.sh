#!/usr/bin/env bash
# make dev-tickets: runs one service of dapr.yaml (SERVICE) with its sidecar, until Ctrl-C or until the sidecar ends. When a file
# changes, the service is built and started again. First: make dev-infra.
set -euo pipefail
cd "$(dirname "$0")/../.."

: "${SERVICE:?which service?}"
[ -f .state/env ] || { echo "First: make dev-infra" >&2; exit 1; }
set -a
. .state/env
set +a
variables=$(.build/local env "$SERVICE")
eval "$variables"
export NAMESPACE=default

# Each in a process group of its own, so that Ctrl-C reaches only this script. It stops air and the service first: the sidecar
# must run until the service has published its last events.
set -m
stop() {
	trap '' INT TERM
	kill "${air:-}" 2> /dev/null && wait "$air" || true
	kill "$sidecar" 2> /dev/null && wait "$sidecar" || true
}
trap 'exit 0' INT TERM
.build/runtime daprd --app-id "$SERVICE" --app-port "$APP_PORT" --app-protocol http \
	--dapr-http-port "$DAPR_HTTP_PORT" --dapr-grpc-port "$DAPR_GRPC_PORT" \
	--dapr-internal-grpc-port "$DAPR_INTERNAL_PORT" --dapr-internal-grpc-listen-address 127.0.0.1 \
	--dapr-listen-addresses 127.0.0.1 --metrics-port "$DAPR_METRICS_PORT" --metrics-listen-address 127.0.0.1 \
	--config "$DAPR_CONFIG_FILE" --enable-mtls --sentry-address "127.0.0.1:${SENTRY_PORT:-50001}" \
	--resources-path components/embedded --resources-path components/events \
	--enable-app-health-check --app-health-check-path /healthz --app-health-probe-interval 1 \
	--app-health-probe-timeout 900 --app-health-threshold 5 --log-level warn \
	--placement-host-address "127.0.0.1:${PLACEMENT_PORT:-50005}" --scheduler-host-address "127.0.0.1:${SCHEDULER_PORT:-50006}" &
sidecar=$!
trap stop EXIT
if [ -f "services/$SERVICE/package.json" ]; then
	program=(--build.cmd "deploy/local/npm.sh build services/$SERVICE" --build.include_ext ts --build.entrypoint "node,.build/$SERVICE.mjs")
else
	program=(--build.entrypoint ".build/dev/$SERVICE")
fi
.build/tools/air -c .air.toml "${program[@]}" < /dev/null &
air=$!
wait -n
