# Shared by load.sh and soak.sh: starts $bin on loopback and core 0, and ends it however the script ends.
: "${LOAD_PORT:=18080}" "${LOAD_MEDIA_PORT:=13479}" "${LOAD_RELAY_PORT:=13478}"
url=http://127.0.0.1:$LOAD_PORT
server=

pin() {
	if command -v taskset > /dev/null && [ "$(nproc)" -ge 2 ]; then exec taskset -c "$@"; else shift; exec "$@"; fi
}

stop_server() {
	if [ -n "$server" ]; then kill "$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true; fi
	server=
}
trap stop_server EXIT

start_server() {
	# Variables set to nothing hide those of a `.env`.
	export HOST=127.0.0.1 PORT=$LOAD_PORT MEDIA_PORT=$LOAD_MEDIA_PORT LOG=warn RELAY=${RELAY:-off} RELAY_PORT=$LOAD_RELAY_PORT STUN_SERVERS=none AUTH_TOKEN= TLS_CERT= TLS_KEY= PUBLIC_IP=
	pin 0 "$bin" > /dev/null & server=$!
	for _ in {1..100}; do
		(exec 3<> "/dev/tcp/127.0.0.1/$LOAD_PORT") 2> /dev/null && break
		kill -0 "$server" 2> /dev/null || { echo "the server did not start" >&2; exit 1; }
		sleep 0.1
	done
	sleep 0.5
	kill -0 "$server" || { echo "port $LOAD_PORT or $LOAD_MEDIA_PORT is in use" >&2; exit 1; }
}
