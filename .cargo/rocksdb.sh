#!/bin/sh
# Compiles RocksDB once per machine: its sources joined into a few dozen units take a quarter of the time
# that the build script of librocksdb-sys takes for one file each. Writes .cargo/rocksdb.toml, through which
# cargo links the archive. Not on x86-64 Linux, or where anything fails: cargo compiles RocksDB itself.
set -eu
cd "$(dirname "$0")/.."
CARGO="${CARGO:-cargo}"
CXX="${CXX:-c++}"
config=.cargo/rocksdb.toml

say() { echo "rocksdb: $*" >&2; }
ordinary() {
    rm -f "$config"
    [ $# -eq 0 ] || say "$*; cargo compiles RocksDB file by file instead, which takes 20 minutes more"
    exit 0
}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || ordinary
[ -z "${ROCKSDB_LIB_DIR:-}${ROCKSDB_COMPILE:-}" ] || ordinary

# The sources that Cargo.lock names, where cargo keeps them.
metadata="$($CARGO metadata --format-version 1 --locked)" || ordinary "cargo could not fetch its crates"
folder() { echo "$metadata" | grep -o "\"manifest_path\":\"[^\"]*/$1-[0-9][^/\"]*/Cargo.toml\"" | head -n 1 | cut -d '"' -f 4 | xargs -r dirname; }
crate="$(folder librocksdb-sys)"
lz4="$(folder lz4-sys)"
[ -n "$crate" ] && [ -n "$lz4" ] || ordinary "the sources of RocksDB are not where cargo keeps crates"

# What the build script of librocksdb-sys gives the compiler for a release build of this workspace.
flags="-O3 -fPIC -ffunction-sections -fdata-sections -std=c++20 -march=x86-64-v2 -include cstdint -w
-DNDEBUG -DLZ4=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX
-DROCKSDB_SCHED_GETCPU_PRESENT -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT"

# One archive for each version of RocksDB, compiler and set of flags.
key="$( { echo "$flags"; $CXX --version; cat "$crate/rocksdb_lib_sources.txt"; } | sha256sum | cut -c 1-16)"
version="${crate##*/librocksdb-sys-}"
cache="${FAMA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fama}"
place="$cache/rocksdb-${version%%/*}-$key"

if [ ! -e "$place/librocksdb.a" ]; then
    say "compiling RocksDB into $place, once for this machine"
    mkdir -p "$cache" || ordinary "$cache cannot be made"
    work="$(mktemp -d "$cache/rocksdb.XXXXXX")" || ordinary "$cache is not writable"
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    # The file of the version comes ready with the crate, outside the list's folder.
    { grep -v '^util/build_version.cc' "$crate/rocksdb_lib_sources.txt" | sed "s|.*|#include \"$crate/rocksdb/&\"|"
      echo "#include \"$crate/build_version.cc\""; } |
        awk -v folder="$work" '{ print > sprintf("%s/unit%02d.cc", folder, (NR - 1) / 15) }'
    compile="$CXX $(echo "$flags" | tr '\n' ' ') -I$crate/rocksdb/include -I$crate/rocksdb -I$crate -I$lz4/liblz4/lib"
    # shellcheck disable=SC2016
    printf '%s\n' "$work"/unit*.cc |
        xargs -P "$(nproc)" -I UNIT sh -c "$compile -c UNIT -o UNIT.o && echo 'rocksdb: '\"\$(ls '$work' | grep -c 'o\$')\"' of '\"\$(ls '$work' | grep -c 'cc\$')\" >&2" ||
        ordinary "compiling it in joined units failed"
    ar crs "$work/librocksdb.a" "$work"/unit*.o || ordinary "ar failed"
    rm -f "$work"/unit*
    mkdir -p "$place"
    mv "$work/librocksdb.a" "$place/librocksdb.a"
fi

# Cargo reads this file because .cargo/config.toml includes it; an older cargo than 1.93 does not, and compiles.
printf '[env]\nROCKSDB_LIB_DIR = "%s"\nROCKSDB_STATIC = "1"\n' "$place" > "$config.new"
cmp -s "$config.new" "$config" 2>/dev/null && rm "$config.new" || mv "$config.new" "$config"
