#!/bin/sh
# Looks for what a build needs beside Rust, and installs what is missing on Debian and Ubuntu.
set -eu

missing=""
command -v cargo >/dev/null 2>&1 || {
    echo "needs: cargo is missing: install Rust 1.88 or newer from https://rustup.rs" >&2
    exit 1
}
command -v c++ >/dev/null 2>&1 || missing="$missing g++"
command -v make >/dev/null 2>&1 || missing="$missing make"
command -v openssl >/dev/null 2>&1 || missing="$missing openssl"
# bindgen loads libclang at build time.
found=""
for folder in ${LIBCLANG_PATH:-} /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/local/lib; do
    for file in "$folder"/libclang.so "$folder"/libclang-[0-9]*.so "$folder"/libclang-[0-9]*.so.*; do
        [ -e "$file" ] && found="$file"
    done
done
[ -n "$found" ] || missing="$missing libclang-dev"

[ -n "$missing" ] || exit 0

echo "needs: missing on this machine:$missing" >&2
command="apt-get install -y --no-install-recommends$missing"
if ! command -v apt-get >/dev/null 2>&1; then
    echo "needs: no apt-get here; install the equivalents of:$missing" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    run=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    run="sudo"
else
    echo "needs: run this, then try again:  sudo $command" >&2
    exit 1
fi
echo "needs: installing with: $run $command" >&2
$run apt-get update -qq
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive $run $command
