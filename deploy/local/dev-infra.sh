#!/usr/bin/env bash
# make dev-infra and dev-infra-down: what the services need, in the background, for make dev-auth and so on.
set -euo pipefail
cd "$(dirname "$0")/../.."

pid_file=.state/dev-infra.pid
log=.state/logs/dev-infra.log
# A process number may have gone to somebody else since.
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
	set -m # in a process group of its own, for Ctrl-C in this terminal is not meant for it
	nohup .build/local infra > "$log" 2>&1 < /dev/null &
	echo $! > "$pid_file"
	# It opens the port of Dapr's scheduler and says so in its log; a process that is gone says why there.
	for _ in $(seq 600); do
		running || { cat "$log"; rm -f "$pid_file"; exit 1; }
		grep -qi 'dapr run' "$log" && { echo "The servers are up: make dev-tickets, in another terminal; log in $log."; exit 0; }
		sleep 0.1
	done
	echo "The servers are not ready after a minute; $log says why."
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
