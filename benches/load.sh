#!/bin/bash
# The server on one core, the load client on the other: a run for each number of LISTENERS, FOR so long, one with SILENT listeners, one in
# which CHURN of CHURNING listeners come and go each second, one with RELAYED listeners who come through the relay, and one with ROOMS rooms of five
# people who send each other MESSAGES a second. Reports go to DIR. `make load` makes a table of them.
# BARE, a command, tells what the machine alone takes for a datagram, in microseconds, and for a read of memory, in nanoseconds. On a machine
# that others share, QUIET="3.2 30" is how much these may be (or only the first): a run waits until it is so, MINUTES long at most, and is made
# again when it no longer is so afterwards, TRIES times in all at most. What the run itself comes to decides nothing.
# usage: load.sh path/to/voxcast
set -euo pipefail
bin=$1
: "${BARE:=}" "${QUIET:=}" "${MINUTES:=20}" "${TRIES:=3}"
: "${LISTENERS:=100 500 1000 2000 4000}" "${FOR:=60s}" "${SILENT=2000}" "${CHURNING=2000}" "${CHURN:=200}" "${RELAYED=1000}" "${ROOMS=1000}" "${MESSAGES:=5000}" "${RAMP:=200}" "${DIR:=.}"
. "$(dirname "$0")/server.sh"

# A core that slept between two turns wakes late, and with nothing in its caches. For as long as this file is open cores stay awake, where the
# system lets us, as with `tuned-adm profile latency-performance`: what is measured is the work and not the waking.
if [ -w /dev/cpu_dma_latency ] && { exec 4<> /dev/cpu_dma_latency; } 2> /dev/null; then printf '\0\0\0\0' >&4; fi

if [ -n "$QUIET" ] && [ -z "$BARE" ]; then echo "QUIET wants BARE, the command that tells" >&2; exit 2; fi

bare() { if [ -n "$BARE" ]; then (pin 0 bash -c "$BARE"); fi; }

is_quiet() { [ -z "$QUIET" ] || awk -v is="$1" -v may="$QUIET" 'BEGIN { split(is, i); for (n = split(may, m); n; n--) if (i[n] > m[n] + 0) exit 1 }'; }

# A server of its own for each run, so that none pays for the one before. A run in which some were refused is a result too.
once() {
	local name=$1
	shift
	start_server
	(pin 1 "$bin" load "$url" --ramp "$RAMP" --for "$FOR" --pid "$server" --json "$@" > "$DIR/$name.json") \
		|| echo "$name: not all were served" >&2
	stop_server
}

run() {
	local before after end try
	for ((try = 0; try < TRIES; try++)); do
		before=$(bare)
		for ((end = SECONDS + MINUTES * 60; SECONDS < end; )); do
			is_quiet "$before" && break
			sleep 3
			before=$(bare)
		done
		once "$@"
		after=$(bare)
		printf '%s\n' "$before" "$after" > "$DIR/$1.bare"
		is_quiet "$after" && break
		echo "$1: a bare datagram and a read took $before before, $after after" >&2
	done
}

mkdir -p "$DIR"
rm -f "$DIR"/*.json "$DIR"/*.bare
for listeners in $LISTENERS; do run "$listeners" --listeners "$listeners"; done
if [ -n "$SILENT" ]; then run silent --listeners "$SILENT" --silent; fi
if [ -n "$CHURNING" ]; then run churn --listeners "$CHURNING" --churn "$CHURN"; fi
if [ -n "$RELAYED" ]; then RELAY=on run relayed --listeners "$RELAYED" --relay; fi
if [ -n "$ROOMS" ]; then ROOMS_PER_ADDRESS=$ROOMS run rooms --rooms "$ROOMS" --people 5 --messages "$MESSAGES"; fi
