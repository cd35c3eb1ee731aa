#!/bin/bash
# The server on one core, the load client on the other: a run for each number of LISTENERS, FOR so long, one with SILENT listeners, one in
# which CHURN of CHURNING listeners come and go each second. Reports go to DIR, and what was heard to standard output.
# usage: load.sh path/to/voxcast
set -euo pipefail
bin=$1
: "${LISTENERS:=500 1000 2000 4000}" "${FOR:=60s}" "${SILENT=2000}" "${CHURNING=1000}" "${CHURN:=100}" "${RAMP:=200}" "${DIR:=.}"
: "${LOAD_PORT:=18080}" "${LOAD_MEDIA_PORT:=13479}"

pin() {
	if command -v taskset > /dev/null && [ "$(nproc)" -ge 2 ]; then exec taskset -c "$@"; else shift; exec "$@"; fi
}

# Variables set to nothing hide those of a `.env`.
export HOST=127.0.0.1 PORT=$LOAD_PORT MEDIA_PORT=$LOAD_MEDIA_PORT LOG=warn AUTH_TOKEN= TLS_CERT= TLS_KEY= PUBLIC_IP=
server=
stop() {
	if [ -n "$server" ]; then kill "$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true; fi
	server=
}
trap stop EXIT

# A server of its own for each run, so that none pays for the one before. A run in which some were refused is a result too.
run() {
	local name=$1
	shift
	pin 0 "$bin" > /dev/null & server=$!
	for _ in {1..100}; do
		(exec 3<> "/dev/tcp/127.0.0.1/$LOAD_PORT") 2> /dev/null && break
		kill -0 "$server" 2> /dev/null || { echo "the server did not start" >&2; exit 1; }
		sleep 0.1
	done
	sleep 0.5
	kill -0 "$server" || { echo "port $LOAD_PORT or $LOAD_MEDIA_PORT is in use" >&2; exit 1; }
	(pin 1 "$bin" load "http://127.0.0.1:$LOAD_PORT" --ramp "$RAMP" --for "$FOR" --pid "$server" --json "$@" > "$DIR/$name.json") \
		|| echo "$name: not all were served" >&2
	stop
}

mkdir -p "$DIR"
rm -f "$DIR"/*.json
for listeners in $LISTENERS; do run "$listeners" --listeners "$listeners"; done
if [ -n "$SILENT" ]; then run silent --listeners "$SILENT" --silent; fi
if [ -n "$CHURNING" ]; then run churn --listeners "$CHURNING" --churn "$CHURN"; fi
