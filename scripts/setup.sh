#!/bin/sh
# Makes .venv and installs a lock file into it: `scripts/setup.sh requirements-dev.lock`.
#
# It needs nothing but Python 3.11 or newer with its venv module, says what to install where that is missing,
# and does nothing when the lock file is the one that was installed last. PYTHON names another interpreter.
# Two terminals may call it at once: the second waits for the first.
set -eu

cd "$(dirname "$0")/.."
lock=${1:?usage: scripts/setup.sh LOCK_FILE}
stamp=.venv/.installed-$(basename "$lock")

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    found=$("${PYTHON:-python3}" --version 2>/dev/null) || found="no ${PYTHON:-python3}"
    cat >&2 <<EOF
Kith needs Python 3.11 or newer; this machine has: $found.
Install it, then run the same command again:
  Debian 12 and newer, Ubuntu 24.04 and newer:  sudo apt install python3 python3-venv
  Ubuntu 22.04:                                 sudo apt install python3.11 python3.11-venv
An interpreter elsewhere is named with PYTHON:  make setup PYTHON=/path/to/python3
EOF
    exit 1
}

require_venv() {
    # Debian and Ubuntu ship the module venv without ensurepip, which makes an environment without pip.
    "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 && return
    package=$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    cat >&2 <<EOF
$1 comes without the modules that make a virtual environment (venv, ensurepip).
Install them, then run the same command again:
  Debian, Ubuntu:  sudo apt install python3-venv
  if $1 is not the default Python of the system:  sudo apt install $package
EOF
    exit 1
}

is_up_to_date() {
    [ -x .venv/bin/python ] && cmp -s "$lock" "$stamp"
}

install() {
    is_up_to_date && return
    # An environment whose interpreter is gone, or whose pip never arrived, is made anew.
    if ! { is_new_enough .venv/bin/python && .venv/bin/python -m pip --version; } >/dev/null 2>&1; then
        python=$(find_python)
        require_venv "$python"
        echo "Making .venv with $("$python" --version)"
        "$python" -m venv --clear .venv
    fi
    echo "Installing $lock"
    # Wheels only: a package that had to be compiled would need more than Python on this machine.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
        --only-binary :all: --require-hashes -r "$lock"
    cp "$lock" "$stamp"
}

is_up_to_date && exit 0
if command -v flock >/dev/null 2>&1; then
    exec 9<"$lock"
    flock 9
fi
install
