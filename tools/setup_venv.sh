#!/usr/bin/env bash
# Makes .venv and installs tsp3d into it: tools/setup_venv.sh demo|dev
#   demo  what `make demo` needs; the C++ extension where there is a compiler, the reference engine otherwise
#   dev   everything that tests, linters and training need; a compiler is required unless EXTENSION=0
# Environment: PYTHON, VENV, TORCH (what pip installs as torch), EXTENSION=auto|0.
set -euo pipefail
cd "$(dirname "$0")/.."

kind=${1:?usage: tools/setup_venv.sh demo|dev}
venv=${VENV:-.venv}
torch=${TORCH:-torch==2.13.0}
extension=${EXTENSION:-auto}

say() { printf '%s\n' "tsp3d set-up: $*" >&2; }
die() { say "$@"; exit 1; }
modern() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
        if command -v "$candidate" >/dev/null && modern "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    die "Python 3.10 or newer is needed, and ${PYTHON:-python3} is not. Install one (apt install python3 python3-venv)" \
        "or name it: make PYTHON=/path/to/python3"
}

make_venv() {
    local python
    python=$(find_python)
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        local version
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        die "$python cannot make virtual environments with pip. On Debian and Ubuntu:" \
            "apt install python3-venv (or python$version-venv)"
    fi
    say "making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
}

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 || ! modern "$venv/bin/python"; then
    make_venv
fi
pip() { "$venv/bin/python" -m pip -qq --disable-pip-version-check "$@"; }

say "installing packages (some minutes the first time, most of them for PyTorch)"
pip install 'setuptools>=77' wheel ninja numpy
# shellcheck disable=SC2086 # TORCH may carry options such as --index-url
if ! "$venv/bin/python" -c 'import torch, sys; sys.exit(tuple(map(int, torch.__version__.split(".")[:2])) < (2, 10))' 2>/dev/null; then
    pip install $torch
fi

# No later step may replace the torch that the extension is built against.
constraints=$(mktemp)
trap 'rm -f "$constraints" "$constraints.log"' EXIT
"$venv/bin/python" -c 'import torch; print("torch==" + torch.__version__.split("+")[0])' >"$constraints"

package=.
[ "$kind" = dev ] && package='.[dev]'
install() { pip install --no-build-isolation -c "$constraints" -e "$package"; }
without_extension() {
    rm -f tsp3d/_C_cpu*.so # an old one would be loaded
    TSP3D_BUILD=0 install
}

if [ "$extension" = 0 ]; then
    say "EXTENSION=0: using the plain-PyTorch reference engine"
    without_extension
elif ! command -v "${CXX:-c++}" >/dev/null && ! command -v g++ >/dev/null; then
    [ "$kind" = dev ] && die "no C++ compiler found. On Debian and Ubuntu: apt install g++ (or run with EXTENSION=0" \
        "to use the slower reference engine)"
    say "no C++ compiler found: using the slower plain-PyTorch reference engine (apt install g++ for the fast one)"
    without_extension
elif [ "$kind" = dev ]; then
    say "building the C++ extension"
    TSP3D_BUILD=1 install
elif ! TSP3D_BUILD=1 install 2>"$constraints.log"; then
    say "building the C++ extension failed, see below; using the slower plain-PyTorch reference engine"
    tail -n 15 "$constraints.log" >&2
    without_extension
fi
say "ready"
