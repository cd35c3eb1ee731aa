#!/bin/bash
# A long run in which listeners come and go: memory must be flat within 2 % from the fifth minute (SETTLED seconds) on, and open files and
# what the server counts must be back where they were when all have left. Who was refused comes again; memory is looked at while 99 of 100
# are there, which must be so most of the time.
# usage: soak.sh path/to/voxcast
set -euo pipefail
bin=$1
: "${LISTENERS:=1000}" "${FOR:=30m}" "${CHURN:=20}" "${RAMP:=100}" "${SETTLED:=300}"
. "$(dirname "$0")/server.sh"

memory() { sed -n 's/^VmRSS:[[:space:]]*\([0-9]*\) kB$/\1/p' "/proc/$server/status"; }
files() { find "/proc/$server/fd" -mindepth 1 | wc -l; }
# Sessions of all states, and WebSockets.
alive() {
	exec 3<> "/dev/tcp/127.0.0.1/$LOAD_PORT"
	printf 'GET /metrics HTTP/1.1\r\nHost: soak\r\nConnection: close\r\n\r\n' >&3
	awk '/^voxcast_(sessions\{|websockets )/ { sum += $2 } END { print sum + 0 }' <&3
	exec 3>&-
}

start_server
files_before=$(files)
alive_before=$(alive)
(pin 1 "$bin" load "$url" --listeners "$LISTENERS" --churn "$CHURN" --again --ramp "$RAMP" --for "$FOR" --pid "$server") & client=$!
least=0 most=0 full=0 short=0
begun=$SECONDS
settled=$((SETTLED + LISTENERS / RAMP))
while kill -0 "$client" 2> /dev/null; do
	sleep 5
	now=$(memory)
	passed=$((SECONDS - begun))
	if [ "$passed" -lt "$settled" ]; then continue; fi
	# Not while they all leave.
	kill -0 "$client" 2> /dev/null || break
	# A WebSocket each.
	if [ $((($(files) - files_before) * 100)) -lt $((LISTENERS * 99)) ]; then
		short=$((short + 1))
		continue
	fi
	full=$((full + 1))
	if [ "$least" = 0 ] || [ "$now" -lt "$least" ]; then least=$now; fi
	if [ "$now" -gt "$most" ]; then most=$now; fi
	if [ $((passed % 60)) -lt 5 ]; then echo "$passed s: $now KiB, $(files) files"; fi
done
# Some may have been refused, which is a result too.
wait "$client" || echo "not all were served" >&2
for _ in {1..20}; do
	files_after=$(files)
	alive_after=$(alive)
	if [ "$files_after" = "$files_before" ] && [ "$alive_after" = "$alive_before" ]; then break; fi
	sleep 1
done
echo "memory: $least to $most KiB in $full looks, $short looks at too few listeners; files: $files_before before, $files_after after; sessions and sockets: $alive_before before, $alive_after after"
[ "$full" -gt "$short" ] || { echo "too short a run, or too few listeners" >&2; exit 1; }
[ $((most * 100)) -le $((least * 102)) ] || { echo "memory is not flat" >&2; exit 1; }
[ "$files_after" = "$files_before" ] || { echo "open files were left behind" >&2; exit 1; }
[ "$alive_after" = "$alive_before" ] || { echo "sessions were left behind" >&2; exit 1; }
echo "soak: flat"
