#!/bin/sh
# Builds the Python module `fama` (cli/python) as a wheel, and installs it for tests/auditor and the tests of the Python
# client, in whose folder `.cargo/needs.sh test` has installed maturin, and for docs/examples/engines where its packages
# are. Silent when it is as it was.
set -eu
cd "$(dirname "$0")/.."
target="$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)"
python="$target/auditor/bin/python3"
out="$target/wheels"

rm -rf "$out"
if ! said="$(PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin" CARGO_TARGET_DIR="$target" "$python" -m maturin build \
    --quiet --profile release --locked --manifest-path cli/python/Cargo.toml --interpreter "$python" --out "$out" 2>&1)"; then
    echo "$said" >&2
    exit 1
fi
for python in "$python" "$target/engines/bin/python3"; do
    [ ! -x "$python" ] || "$python" -m pip install --quiet --disable-pip-version-check --no-deps --no-index \
        --force-reinstall "$out"/fama-*.whl >&2
done
