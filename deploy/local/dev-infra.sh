#!/usr/bin/env bash
# make dev-infra and make dev-infra-down: starts what the services need in the background, and stops it. Then: make dev-tickets.
set -euo pipefail
cd "$(dirname "$0")/../.."

pid_file=.state/dev-infra.pid
log=.state/logs/dev-infra.log
# Meanwhile another process may have the number.
running() {
	[ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2> /dev/null &&
		ps -o args= -p "$(cat "$pid_file")" | grep -q 'local infra'
}

case "${1:-}" in
up)
	if running; then
		echo "The servers are up already (process $(cat "$pid_file")); make dev-infra-down stops them."
		exit 0
	fi
	mkdir -p .state/logs
	set -m # a process group of its own, which Ctrl-C in this terminal does not reach
	nohup .build/local infra > "$log" 2>&1 < /dev/null &
	echo $! > "$pid_file"
	# When it is ready, its log contains the next command. If it has ended, its log contains the reason.
	for _ in $(seq 600); do
		running || { cat "$log"; rm -f "$pid_file"; exit 1; }
		grep -qi 'dapr run' "$log" && { echo "The servers are up: make dev-tickets, in another terminal; log in $log."; exit 0; }
		sleep 0.1
	done
	echo "The servers are not ready after a minute. See $log"
	exit 1
	;;
down)
	running || { echo "The servers are not up."; rm -f "$pid_file"; exit 0; }
	pid=$(cat "$pid_file")
	kill "$pid"
	while kill -0 "$pid" 2> /dev/null; do sleep 0.1; done
	rm -f "$pid_file"
	echo "The servers are down."
	;;
*)
	echo "usage: $0 up|down" >&2
	exit 2
	;;
esac
