#!/bin/sh
# Compiles RocksDB once per machine and writes .cargo/config.toml, so that every cargo command in this checkout
# links the result. RocksDB's 342 sources joined into 23 units take about a quarter of the processor time that
# the build script of librocksdb-sys needs for one file at a time.
#
# Where this does not apply (anything but Linux on x86-64) or fails, cargo compiles RocksDB itself.
# FAMA_CACHE says where the archive is kept (default: ~/.cache/fama). Silent when there is nothing to do.
set -eu
cd "$(dirname "$0")/.."
CARGO="${CARGO:-cargo}"
CXX="${CXX:-c++}"
PATH="$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin"
config=.cargo/config.toml
mark="# Written by .cargo/rocksdb.sh; not in git, since it names a folder of this machine."

say() { echo "rocksdb: $*" >&2; }

# Writes the configuration, unless a person wrote one. The arguments are the lines of its [env] table.
configure() {
    if [ -e "$config" ] && ! grep -qxF "$mark" "$config"; then
        [ $# -eq 0 ] || say "$config is not of this script's making: add to its [env]: $*"
        return 0
    fi
    {
        echo "$mark"
        # Any x86-64 processor since about 2010. RocksDB then checks its blocks with the processor's CRC32C.
        printf "\n[target.'cfg(target_arch = \"x86_64\")']\nrustflags = [\"-Ctarget-cpu=x86-64-v2\"]\n"
        [ $# -eq 0 ] || { printf '\n[env]\n'; printf '%s\n' "$@"; }
    } > "$config.new"
    # An unchanged file keeps its time.
    if cmp -s "$config.new" "$config"; then rm "$config.new"; else mv "$config.new" "$config"; fi
}

# Leaves RocksDB to cargo, for the reason given.
ordinary() {
    [ $# -eq 0 ] || say "$*: cargo compiles RocksDB itself, which takes some 20 minutes more"
    configure
    exit 0
}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || ordinary
# The variables with which librocksdb-sys is told to use or to compile another RocksDB.
[ -z "${ROCKSDB_LIB_DIR:-}${ROCKSDB_COMPILE:-}${ROCKSDB_INCLUDE_DIR:-}" ] || ordinary

# The sources that Cargo.lock names, where cargo keeps them.
metadata="$($CARGO metadata --format-version 1 --locked --filter-platform x86_64-unknown-linux-gnu)" ||
    ordinary "cargo could not fetch its crates"
folder() {
    echo "$metadata" | grep -o "\"manifest_path\":\"[^\"]*/$1-[0-9][^/\"]*/Cargo.toml\"" |
        head -n 1 | sed 's|^"manifest_path":"||; s|/Cargo.toml"$||'
}
crate="$(folder librocksdb-sys)"
lz4="$(folder lz4-sys)/liblz4/lib"
zstd="$(folder zstd-sys)/zstd/lib"
[ -r "$crate/rocksdb_lib_sources.txt" ] && [ -r "$crate/build_version.cc" ] && [ -r "$lz4/lz4.h" ] &&
    [ -r "$zstd/zstd.h" ] || ordinary "the sources of RocksDB, lz4 or zstd are not where they used to be"

# What the build script of librocksdb-sys gives the compiler in a release build for x86-64-v2.
flags="-O3 -fPIC -ffunction-sections -fdata-sections -std=c++20 -march=x86-64-v2 -include cstdint -w
-DNDEBUG -DLZ4=1 -DZSTD=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DOS_LINUX -DROCKSDB_PLATFORM_POSIX
-DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT"

# One archive for each version of RocksDB, compiler and set of flags.
key="$( { echo "$flags"; $CXX --version; cat "$crate/rocksdb_lib_sources.txt"; } | sha256sum | cut -c 1-16)"
cache="${FAMA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fama}"
place="$cache/rocksdb-${crate##*/librocksdb-sys-}-$key"

if [ ! -e "$place/librocksdb.a" ]; then
    mkdir -p "$cache" && work="$(mktemp -d "$cache/rocksdb.XXXXXX")" || ordinary "$cache cannot be written"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    # 15 sources a unit. The file with RocksDB's version comes ready with the crate, outside the listed folder.
    {
        grep -v '^util/build_version.cc' "$crate/rocksdb_lib_sources.txt" | sed "s|.*|#include \"$crate/rocksdb/&\"|"
        echo "#include \"$crate/build_version.cc\""
    } | awk -v folder="$work" '{ print > sprintf("%s/unit%02d.cc", folder, (NR - 1) / 15) }'
    say "compiling RocksDB, once for this machine, into $place"
    {
        echo '#!/bin/sh'
        echo "$CXX $(echo "$flags" | tr '\n' ' ') -I'$crate/rocksdb/include' -I'$crate/rocksdb' -I'$crate'" \
            "-I'$lz4' -I'$zstd' -c \"\$1\" -o \"\$1.o\" && echo \"rocksdb: \${1##*/}\" >&2"
    } > "$work/compile"
    printf '%s\n' "$work"/unit*.cc | xargs -P "$(nproc)" -n 1 sh "$work/compile" ||
        ordinary "the joined units did not compile"
    ar crs "$work/librocksdb.a" "$work"/unit*.o || ordinary "ar could not make the archive"
    # Whole or not at all: whoever finds the archive may use it.
    mkdir -p "$place"
    mv "$work/librocksdb.a" "$place/librocksdb.a"
fi

configure "ROCKSDB_LIB_DIR = \"$place\"" 'ROCKSDB_STATIC = "1"'
