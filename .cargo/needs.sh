#!/bin/sh
# Looks for what a build needs besides Rust (with the word "test" or "package": also what that needs). On Debian
# and Ubuntu it installs what is missing, as root or through sudo without a password; elsewhere, and
# where it may not, it says what to do and ends with an error. Silent when nothing is missing.
set -eu
cd "$(dirname "$0")/.."
what="${1:-build}"
# Whether a test without other people's programs is a failure.
foreign="${FAMA_FOREIGN:+1}"
CARGO="${CARGO:-cargo}"
# Where rustup puts cargo, for a shell that was started before rustup ran.
PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"

say() { echo "needs: $*" >&2; }

# What rustc links with, and what RocksDB is written in: the compilers and their standard headers.
compiles_c() { echo '#include <stdlib.h>' | ${CC:-cc} -x c -fsyntax-only - 2>/dev/null; }
compiles_cpp() { echo '#include <string>' | ${CXX:-c++} -x c++ -fsyntax-only - 2>/dev/null; }

# RocksDB's bindings are made with libclang, which is of no use without its own headers.
has_libclang() {
    [ -z "${LIBCLANG_PATH:-}" ] || return 0
    library=""
    for file in /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*-linux-gnu/libclang*.so* /usr/lib64/libclang*.so* \
        /usr/lib64/llvm*/lib64/libclang*.so* /usr/lib/libclang*.so* /usr/local/lib/libclang*.so*; do
        case "$file" in *libclang-cpp*) continue ;; esac
        [ ! -e "$file" ] || library="$file"
    done
    [ -n "$library" ] || return 1
    for file in /usr/lib/llvm-*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h \
        /usr/lib64/clang/*/include/stddef.h /usr/local/lib/clang/*/include/stddef.h; do
        [ ! -e "$file" ] || return 0
    done
    return 1
}

# Cargo fetches crates over HTTPS.
has_certificates() {
    [ -z "${SSL_CERT_FILE:-}${SSL_CERT_DIR:-}" ] || return 0
    [ -n "$(ls /etc/ssl/certs 2>/dev/null)" ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ]
}

has() { command -v "$1" >/dev/null 2>&1; }

# The missing Debian packages.
missing() {
    compiles_c && compiles_cpp || printf ' g++'
    has_libclang || printf ' libclang-dev'
    has make || printf ' make'
    has_certificates || printf ' ca-certificates'
    if [ "$what" = package ] || [ "$what$foreign" = test1 ]; then
        has strip || printf ' binutils'
        has dpkg-shlibdeps || printf ' dpkg-dev'
        has mmdebstrap || printf ' mmdebstrap'
        has buildah || printf ' buildah'
    fi
    [ "$what" = test ] || return 0
    [ -z "$foreign" ] || has runc || printf ' runc'
    [ -z "$foreign" ] || has valgrind || printf ' valgrind'
    [ -z "$foreign" ] || has npm || printf ' nodejs npm'
    # It starts nothing, but needs some thirty libraries: installed, not unpacked.
    [ -z "$foreign" ] || has chromium || printf ' chromium'
    # Spark's.
    [ -z "$foreign" ] || has java || printf ' default-jre-headless'
    has openssl || printf ' openssl'
    has curl || printf ' curl'
    has python3 || printf ' python3'
    python3 -c 'import ensurepip, venv' 2>/dev/null || printf ' python3-venv'
    # The papers' commands run in network namespaces of their own.
    has bash || printf ' bash'
    has unshare || printf ' util-linux'
    has ip || printf ' iproute2'
}

# A Python for a folder in tests, with the packages that it names, in a folder of that name next to what cargo builds: for
# tests/auditor, the second implementation, with the tests of node/clients/python, for tests/mcp, other people's client of `fama mcp`,
# and for tests/sign_in, other people's software that signs in. The second argument names another list of packages.
python_of() {
    place="${CARGO_TARGET_DIR:-target}/$1"
    list="${2:-tests/$1/requirements.txt}"
    ! cmp -s "$list" "$place/requirements.txt" || return 0
    if ! python3 -c 'import tomllib' 2>/dev/null; then
        say "$(python3 --version) is too old for $list: install 3.11 or newer, then try again"
        exit 1
    fi
    say "installing into $place:$(sed -n 's/^\([a-z].*\)/ \1/p' "$list" | tr -d '\n')"
    if ! { python3 -m venv --clear "$place" && "$place/bin/python3" -m pip install --quiet --disable-pip-version-check \
        --requirement "$list"; } >&2; then
        say "that failed: the packages come from https://pypi.org, or from where pip's PIP_INDEX_URL says"
        exit 1
    fi
    cp "$list" "$place/requirements.txt"
}

# Other people's programs, where a test without them is a failure: unpacked next to what cargo builds, since Debian's
# packages would start services. And the small Debian in which packages are tried.
foreign() {
    place="${CARGO_TARGET_DIR:-target}/foreign"
    packages=""
    for name in prometheus nginx caddy; do
        has "$name" || [ -x "$place/usr/bin/$name" ] || [ -x "$place/usr/sbin/$name" ] || packages="$packages $name"
    done
    if [ -n "$packages" ]; then
        if ! has apt-get; then
            say "no apt-get here: install$packages, then try again"
            exit 1
        fi
        say "unpacking into $place:$packages"
        mkdir -p "$place"
        # shellcheck disable=SC2086
        ( cd "$place" && { apt-get download -qq $packages || { apt-get update -qq; apt-get download -qq $packages; }; } \
            && for file in *.deb; do dpkg-deb -x "$file" . && rm "$file" || exit 1; done ) >&2
    fi
    # It must have the version of the crate in benches.
    runner="$(sed -n '/^name = "gungraun-runner"$/{n;s/version = "\(.*\)"/\1/p}' Cargo.lock)"
    if [ "$(cat "$place/gungraun-runner" 2>/dev/null)" != "$runner" ]; then
        say "installing into $place: gungraun-runner $runner"
        env -u CARGO_TARGET_DIR "$CARGO" install --quiet --locked --force --version "=$runner" --root "$place" gungraun-runner >&2
        echo "$runner" > "$place/gungraun-runner"
    fi
    .cargo/package.sh base >/dev/null
    npm_packages
    python_of schemathesis
    python_of sign_in
    python_of engines docs/examples/engines/requirements.txt
}

# What the client for JavaScript is tried with, in a folder next to what cargo builds: web frameworks, other people's clients for
# OAuth, tokens and the Model Context Protocol, what drives a browser, and what judges whether everybody can use a page.
npm_packages() {
    place="${CARGO_TARGET_DIR:-target}/npm"
    list=node/clients/js/package.json
    if ! cmp -s "$list" "$place/package.json"; then
        mkdir -p "$place"
        say "installing into $place:$(sed -n 's/.*"devDependencies": {\(.*\)}.*/\1/p' "$list")"
        cp "$list" "$place/package.json"
        if ! ( cd "$place" && npm install --no-audit --no-fund --no-package-lock --ignore-scripts --silent ) >&2; then
            rm "$place/package.json"
            say "that failed: the packages come from where npm's settings say"
            exit 1
        fi
    fi
    ln -sfn "$(cd "$place" && pwd)/node_modules" node/clients/js/node_modules
}

rust() {
    minor="$(sed -n 's/^rust-version = "1\.\([0-9]*\).*/\1/p' Cargo.toml)"
    if ! has "${CARGO%% *}"; then
        say "cargo is missing: install Rust 1.$minor or newer from https://rustup.rs"
        exit 1
    fi
    version="$($CARGO --version)"
    have="$(echo "$version" | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')"
    if [ "${have:-0}" -lt "$minor" ]; then
        say "$version is too old: Rust 1.$minor or newer is needed; \`rustup update stable\`, or https://rustup.rs"
        exit 1
    fi
    [ "$what" = test ] || return 0
    for part in fmt clippy; do
        ! $CARGO "$part" --version >/dev/null 2>&1 || continue
        if ! has rustup; then
            say "cargo $part is missing: install it where your Rust comes from, then try again"
            exit 1
        fi
        say "cargo $part is missing; adding it with rustup"
        rustup component add rustfmt clippy >&2
    done
}

install() {
    command="apt-get install -y --no-install-recommends$1"
    if ! has apt-get; then
        say "no apt-get here: install what other systems call$1, then try again"
        exit 1
    fi
    if [ "$(id -u)" = 0 ]; then
        root=""
    elif has sudo && sudo -n true 2>/dev/null; then
        root="sudo"
    else
        say "run this, then try again:  sudo apt-get update && sudo $command"
        exit 1
    fi
    say "installing:  ${root:+$root }$command"
    # Another program may be installing something: wait for it. An update that fails in part may do.
    wait="-o DPkg::Lock::Timeout=300"
    # shellcheck disable=SC2086
    {
        $root env DEBIAN_FRONTEND=noninteractive apt-get $wait update -qq >&2 || say "apt-get update had errors"
        $root env DEBIAN_FRONTEND=noninteractive apt-get $wait ${command#apt-get } -qq >&2
    }
}

rust
packages="$(missing)"
if [ -n "$packages" ]; then
    say "missing on this machine:$packages"
    install "$packages"
    packages="$(missing)"
    [ -z "$packages" ] || { say "still missing after the installation:$packages"; exit 1; }
    say "all there"
fi
[ "$what" != test ] || { python_of auditor; python_of mcp; }
[ "$what" != test ] || [ -z "$foreign" ] || foreign
