# Sourced by the benchmarks beside it, from the root of the repository: what all of them need.

binary=${ECAPTURE:-target/release/ecapture}
hertz=$(getconf CLK_TCK)

# begin PROGRAM…: these programs are needed. Makes $folder, which goes away at the end with all that runs.
begin() {
    local program
    for program in nginx openssl python3 "$@"; do
        command -v "$program" >/dev/null || { echo "$program is missing: tests/run installs it" >&2; exit 1; }
    done
    [ -x "$binary" ] || cargo build --release --locked --quiet
    folder=$(mktemp -d)
    chmod 755 "$folder"
    trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$folder"' EXIT
}

# start_nginx [DIRECTIVES of its server]: one worker over TLS that serves $folder. Sets $port, $server (the
# process to end), $worker and $library.
start_nginx() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 -keyout "$folder/key.pem" \
        -out "$folder/certificate.pem" 2>/dev/null
    port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
    cat >"$folder/nginx.conf" <<CONF
worker_processes 1; daemon off; pid $folder/nginx.pid; error_log stderr error; user root;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000; sendfile off; types { text/plain txt; application/octet-stream bin; }
  client_body_temp_path $folder/b; proxy_temp_path $folder/p; fastcgi_temp_path $folder/f; uwsgi_temp_path $folder/u; scgi_temp_path $folder/s;
  server {
    listen 127.0.0.1:$port ssl http2; ssl_certificate $folder/certificate.pem; ssl_certificate_key $folder/key.pem;
    root $folder; ${1:-}
  }
}
CONF
    nginx -c "$folder/nginx.conf" -e stderr 2>/dev/null &
    server=$!
    until openssl s_client -connect "127.0.0.1:$port" </dev/null >/dev/null 2>&1; do :; done
    worker=$(pgrep -P "$server" | head -1)
    library=$(awk '/libssl/ { print $6; exit }' "/proc/$worker/maps")
}

# start_tracer ARGUMENT…: captures the nginx worker, events to $destination. Sets $tracer; its log is $folder/log.txt.
start_tracer() {
    # The last one's would be found before this one's is made.
    rm -f "$folder/log.txt"
    "$binary" tls --libssl "$library" --pid "$worker" "$@" >"${destination:-/dev/null}" 2>"$folder/log.txt" &
    tracer=$!
    until grep -qs capturing "$folder/log.txt"; do :; done
}

# end_tracer: in order, so that its summary is in the log; by force when that takes 10 s.
end_tracer() {
    local watchdog
    kill -INT "$tracer" 2>/dev/null || true
    (sleep 10; echo "process $tracer did not end" >&2; kill -KILL "$tracer") &
    watchdog=$!
    wait "$tracer" 2>/dev/null || true
    kill "$watchdog" 2>/dev/null || true
    wait "$watchdog" 2>/dev/null || true
}

# CPU ticks of a process, user and system.
ticks() { awk '{ print $14 + $15 }' "/proc/$1/stat" 2>/dev/null || echo 0; }

# A line of /proc/PID/status in MiB: mebibytes PID FIELD.
mebibytes() { awk -v field="$2:" '$1 == field { print int($2 / 1024) }' "/proc/$1/status"; }

# Events and bytes that the last tracer has seen.
seen() { sed -nE 's/.*seen ([0-9]+) events with ([0-9]+) bytes.*/\1 \2/p' "$folder/log.txt" | tail -1; }

# What the last tracer says it lost, but for what was asked for: "nothing" or the rows.
lost() {
    local rows
    rows=$(sed -nE 's/.*lost: (.*)/\1/p' "$folder/log.txt" | paste -sd';')
    echo "${rows:-nothing}"
}

# The median of a column of numbers.
median() { # FILE COLUMN
    awk -v column="$2" '{ print $column }' "$1" | sort -g | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'
}
