#!/bin/sh
# Resolves the requirements*.in files into lock files with hashes that hold for every supported Python and
# platform. The resolver, uv, is a tool of whoever maintains the locks; it is not part of the environment.
# `scripts/lock.sh --upgrade` takes the newest versions, without it only what the .in files demand changes.
set -eu
cd "$(dirname "$0")/.."

uv=$(command -v uv || command -v .venv/bin/uv) || {
    echo "uv is needed to write the lock files: .venv/bin/python -m pip install uv" >&2
    exit 1
}

compile() {
    # The lock names no index: where packages come from is the machine's own setting.
    "$uv" pip compile --quiet --universal --generate-hashes --python-version 3.11 \
        --no-emit-index-url --no-emit-find-links --no-header "$@"
}

compile "$@" requirements.in --output-file requirements.lock
compile "$@" --constraints requirements.lock requirements-dev.in --output-file requirements-dev.lock
compile "$@" --constraints requirements-dev.lock requirements-fuzz.in --output-file requirements-fuzz.lock
