#!/usr/bin/env bash
# The vendors' Node SDKs against the running product.
#
#   LOCKGATE_BIN=... LOCKGATE_VENDORS_BIN=... tests/sdk/node/run.sh [node --test arguments]
#
# What package-lock.json names is installed once and kept, under $LOCKGATE_CACHE (default ~/.cache/lockgate), in a folder
# named after it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${LOCKGATE_BIN:?the product to test: cargo build, then target/debug/lockgate}"
: "${LOCKGATE_VENDORS_BIN:?the scripted vendors: cargo build -p tests, then target/debug/vendors}"
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}/sdk

stamp=$( (node --version && cat "$here/package-lock.json") | sha256sum | cut -c 1-12)
environment=$cache/node-$stamp
if [ ! -f "$environment/complete" ]; then
    echo "installing the Node SDKs (once, some seconds)"
    rm -rf "$environment"
    mkdir -p "$environment"
    cp "$here/package.json" "$here/package-lock.json" "$environment"
    npm ci --prefix "$environment" --ignore-scripts --no-audit --no-fund --loglevel=error
    touch "$environment/complete"
fi
# Packages are looked for beside the files that import them, so the tests go to where the packages are.
rm -rf "$environment/run.$$"
mkdir "$environment/run.$$"
trap 'rm -rf "$environment/run.$$"' EXIT
cp -r "$here"/*.js "$here/test" "$environment/run.$$"
# The browser's WebSocket needs the flag on Node 20, and on later ones it changes nothing.
node --experimental-websocket --test --test-reporter=spec "$@" "$environment/run.$$/test/"*.test.js
