#!/usr/bin/env bash
# A private Postgres for tests: its own data directory, a free loopback port, and no waiting for the disk.
#
#   tests/postgres.sh start DIR   starts a cluster under DIR and prints its URL
#   tests/postgres.sh create URL NAME   makes an empty database there
#   tests/postgres.sh pause DIR   ends the server, as if its machine had died; the data stays
#   tests/postgres.sh resume DIR  starts it again, on the same port
#   tests/postgres.sh stop DIR    ends the server (by its process id) and removes DIR
#   tests/postgres.sh             what nextest runs once before the tests (.config/nextest.toml): starts a cluster, hands its
#                                 URL to every test as LOCKGATE_TEST_POSTGRES, and leaves a watcher behind that ends the
#                                 cluster as soon as nextest is gone, however nextest ended
#
# The server refuses to run as root, so root starts it as the user `postgres`. LOCKGATE_POSTGRES_BIN names the folder of the
# server's programs where the usual places do not have it,
# LOCKGATE_POSTGRES_OPTIONS further options of the server (`-c name=value`).
set -euo pipefail

find_programs() {
    if [ -n "${LOCKGATE_POSTGRES_BIN:-}" ]; then
        programs=$LOCKGATE_POSTGRES_BIN
    else
        # Debian keeps the server's programs out of the PATH, one folder per version.
        programs=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
        [ -x "$programs/initdb" ] || programs=$(dirname "$(command -v initdb || echo /nowhere/initdb)")
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
    as_server "$programs/initdb" -D "$dir/data" -U lockgate -A trust -E UTF8 --locale=C --no-sync >"$dir/initdb.log" 2>&1 \
        || { cat "$dir/initdb.log" >&2; exit 1; }
    # A port that was free a moment ago may be gone: try a few.
    for _ in 1 2 3 4 5; do
        port=$(free_port)
        if serve "$dir" "$port"; then
            echo "$port" >"$dir/port"
            echo "postgres://lockgate@127.0.0.1:$port/postgres"
            return
        fi
    done
    cat "$dir/data/server.log" >&2 || true
    exit 1
}

serve() {
    as_server "$programs/pg_ctl" -D "$1/data" -w -t 30 -l "$1/data/server.log" start >/dev/null 2>&1 -o \
        "-p $2 -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c full_page_writes=off \
         -c max_connections=400 -c shared_buffers=64MB -c autovacuum=off ${LOCKGATE_POSTGRES_OPTIONS:-}"
}

pause() {
    local pid
    [ -f "$1/data/postmaster.pid" ] || return 0
    pid=$(head -n 1 "$1/data/postmaster.pid")
    # SIGQUIT: at once, connections cut.
    kill -QUIT "$pid" 2>/dev/null || return 0
    # It takes its file away as the last thing it does.
    for _ in $(seq 500); do
        [ -f "$1/data/postmaster.pid" ] || return 0
        sleep 0.01
    done
    echo "Postgres $pid does not end" >&2
    return 1
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null \
        || echo $((20000 + RANDOM % 12000))
}

# The server may not enter root's home: it works from the root folder.
here=$(cd "$(dirname "$0")" && pwd)
cd /
case "${1:-}" in
start) start "$2" ;;
create)
    find_programs
    "$programs/createdb" --maintenance-db "$2" "$3"
    ;;
pause) pause "$2" ;;
resume)
    find_programs
    rm -f "$2/data/postmaster.pid"
    serve "$2" "$(cat "$2/port")"
    ;;
stop)
    pause "$2"
    rm -rf "$2"
    ;;
watch) # PID DIR
    while kill -0 "$2" 2>/dev/null; do sleep 0.5; done
    pause "$3"
    rm -rf "$3"
    ;;
"")
    : "${NEXTEST_ENV:?started by nextest, see .config/nextest.toml}"
    dir=$(mktemp -d /tmp/lockgate-postgres.XXXXXX)
    chmod 711 "$dir"
    url=$(start "$dir")
    setsid "$here/postgres.sh" watch "$PPID" "$dir" </dev/null >/dev/null 2>&1 &
    echo "LOCKGATE_TEST_POSTGRES=$url" >>"$NEXTEST_ENV"
    ;;
*)
    echo "usage: $0 [start DIR | create URL NAME | pause DIR | resume DIR | stop DIR]" >&2
    exit 2
    ;;
esac
