# Sourced by the shell scripts of this repository: goes to its root, finds cargo, and defines how they print messages,
# fail and time their steps.

set -euo pipefail
called_from=$PWD
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
root=$(pwd -P)

# Another project's Python settings would reach into .venv.
unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1

# rustup puts cargo on the PATH of shells that are opened later, not of the one it was run in.
cargo_bin=${CARGO_HOME:-${HOME:-}/.cargo}/bin
if ! command -v cargo >/dev/null && [ -x "$cargo_bin/cargo" ]; then
    export PATH="$cargo_bin:$PATH"
fi

say() { printf '%s\n' "$*"; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

times=""

# step NAME COMMAND...: runs the command under a title and adds its time to $times.
step() {
    local name=$1 began=$SECONDS status=0 mark=""
    shift
    say "== $name"
    "$@" || status=$?
    [ "$status" -eq 0 ] || mark=" (FAILED)"
    times+="${times:+, }$name $((SECONDS - began)) s$mark"
    return "$status"
}
