#!/usr/bin/env bash
# The SDK tests: the vendors' own Python SDKs against the running product.
#
#   LOCKGATE_BIN=... LOCKGATE_VENDORS_BIN=... tests/sdk/run.sh [pytest arguments]
#
# Runs them once per environment (requirements/*.txt). An environment is made the first time and kept, under
# $LOCKGATE_CACHE (default ~/.cache/lockgate), in a folder named after what is in it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${LOCKGATE_BIN:?the product to test: cargo build, then target/debug/lockgate}"
: "${LOCKGATE_VENDORS_BIN:?the scripted vendors: cargo build -p tests, then target/debug/vendors}"
cache=${LOCKGATE_CACHE:-$HOME/.cache/lockgate}/sdk
python=${PYTHON:-python3}

failed=0
for requirements in "$here"/requirements/*.txt; do
    name=$(basename "$requirements" .txt)
    stamp=$( ("$python" --version && cat "$requirements") | sha256sum | cut -c 1-12)
    environment=$cache/$name-$stamp
    if [ ! -f "$environment/complete" ]; then
        echo "making the Python environment '$name' (once, about a minute)"
        rm -rf "$environment"
        "$python" -m venv "$environment"
        "$environment/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements"
        touch "$environment/complete"
    fi
    echo "== SDKs: $name"
    LOCKGATE_SDK_ENVIRONMENT=$name PYTHONDONTWRITEBYTECODE=1 \
        "$environment/bin/python" -m pytest "$here" -c "$here/pytest.ini" -p no:cacheprovider "$@" || failed=1
done
exit $failed
