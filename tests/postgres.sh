#!/usr/bin/env bash
# A private Postgres for tests: its own data directory, a free loopback port, no durability.
#
#   tests/postgres.sh start DIR   starts a cluster under DIR and prints its URL
#   tests/postgres.sh stop DIR    ends the cluster under DIR (by its process id) and removes DIR
#   tests/postgres.sh             what nextest runs once before the tests (.config/nextest.toml): starts a cluster, hands its
#                                 URL to every test as LOCKGATE_TEST_POSTGRES, and leaves a watcher behind that ends the
#                                 cluster as soon as nextest is gone, however nextest ended
#
# The server refuses to run as root, so root starts it as the user `postgres`. LOCKGATE_POSTGRES_BIN names the folder of the
# server's programs where the usual places do not have it.
set -euo pipefail

find_programs() {
    if [ -n "${LOCKGATE_POSTGRES_BIN:-}" ]; then
        programs=$LOCKGATE_POSTGRES_BIN
    elif command -v postgres >/dev/null 2>&1 && command -v initdb >/dev/null 2>&1; then
        programs=$(dirname "$(command -v initdb)")
    else
        # Debian keeps the server's programs out of the PATH, one folder per version.
        programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    fi
    if [ ! -x "$programs/initdb" ]; then
        echo "no Postgres server found: apt-get install postgresql, or set LOCKGATE_POSTGRES_BIN" >&2
        exit 1
    fi
}

as_server() {
    if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

start() {
    local dir=$1 port
    find_programs
    mkdir -p "$dir"
    [ "$(id -u)" != 0 ] || chown postgres "$dir"
    # The server may not enter root's home or a private temporary folder: work from the root folder.
    cd /
    as_server "$programs/initdb" -D "$dir/data" -U lockgate -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 \
        || { cat "$dir/initdb.log" >&2; exit 1; }
    # A port that was free a moment ago may be gone: try a few.
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        if as_server "$programs/pg_ctl" -D "$dir/data" -w -t 30 -l "$dir/data/server.log" start >/dev/null 2>&1 -o \
            "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c full_page_writes=off \
             -c synchronous_commit=off -c max_connections=400 -c shared_buffers=64MB -c autovacuum=off"; then
            echo "postgres://lockgate@127.0.0.1:$port/postgres"
            return
        fi
    done
    cat "$dir/data/server.log" >&2 || true
    exit 1
}

stop() {
    local dir=$1 pid
    if [ -f "$dir/data/postmaster.pid" ]; then
        pid=$(head -n 1 "$dir/data/postmaster.pid")
        # SIGQUIT: at once, connections cut; nobody wants this data again.
        kill -QUIT "$pid" 2>/dev/null || true
        for _ in $(seq 100); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.05
        done
    fi
    rm -rf "$dir"
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null \
        || echo $((20000 + RANDOM % 12000))
}

case "${1:-}" in
start) start "$2" ;;
stop) stop "$2" ;;
watch) # PID DIR
    while kill -0 "$2" 2>/dev/null; do sleep 0.5; done
    stop "$3"
    ;;
"")
    : "${NEXTEST_ENV:?started by nextest, see .config/nextest.toml}"
    dir=$(mktemp -d /tmp/lockgate-postgres.XXXXXX)
    chmod 711 "$dir"
    url=$(start "$dir")
    setsid "$0" watch "$PPID" "$dir" </dev/null >/dev/null 2>&1 &
    echo "LOCKGATE_TEST_POSTGRES=$url" >>"$NEXTEST_ENV"
    ;;
*)
    echo "usage: $0 [start DIR | stop DIR]" >&2
    exit 2
    ;;
esac
