#!/bin/sh
# Makes what is handed out, in target/package: the stripped program, a Debian package (`deb`), and an OCI image with it
# (`image`), from a release build that is there. `make package` does all of it.
#
# dpkg-deb packs a staged tree: cargo-deb would have to be compiled first, and asks for the same files and scripts.
#
# FAMA_PROGRAM   the program to pack (default: target/release/fama)
# FAMA_PACKAGES  where everything goes (default: target/package)
# FAMA_BASE      the image to build on, by a name that buildah can pull; default: one made here from Debian's packages
# FAMA_CACHE     where that base is kept (default: ~/.cache/fama); without it there, it is made from today's packages
set -eu
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
program="${FAMA_PROGRAM:-$target/release/fama}"
out="${FAMA_PACKAGES:-$target/package}"
cache="${FAMA_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fama}"
# The system that built the program: the C library of an older one may be too old for it.
# shellcheck source=/dev/null
suite="$(. /etc/os-release && echo "$VERSION_CODENAME")"
version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
architecture="$(dpkg --print-architecture)"
deb="fama_${version}_$architecture.deb"
image="fama_${version}_$architecture.image.tar"
# The same sources give the same bytes: files get the time of the last commit.
SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}"
export SOURCE_DATE_EPOCH
umask 022

say() { echo "package: $*" >&2; }

# The libraries that the program needs, with their versions, as Debian's packages name them.
libraries() {
    mkdir "$1/debian"
    printf 'Source: fama\n\nPackage: fama\nArchitecture: any\n' > "$1/debian/control"
    ( cd "$1" && dpkg-shlibdeps -O --ignore-missing-info tree/usr/bin/fama ) | sed -n 's/^shlibs:Depends=//p'
}

# The licences as Debian writes them: each text once, and not the one that every Debian has.
copyright() {
    cat <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Fama

Files: *
Copyright: 2026 the authors of Fama
License: MIT or Apache-2.0

License: MIT
END
    sed -n '/^Permission is hereby/,/^SOFTWARE\./{s/^$/./;s/^/ /;p}' LICENSE
    cat <<END

License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
END
}

# A tree as it is installed.
stage() {
    tree="$1"
    install -D -m 755 "$out/fama" "$tree/usr/bin/fama"
    install -D -m 644 config/node.toml "$tree/etc/fama/node.toml"
    sed -i 's|^data_dir = .*|data_dir = "/var/lib/fama/data"|' "$tree/etc/fama/node.toml"
    mkdir -p "$tree/usr/lib/systemd/system" "$tree/usr/share/man/man1"
    # Without the head, which says how to install by hand.
    sed -e '1,/^\[Unit\]/{/^#/d}' -e 's|/usr/local/bin/|/usr/bin/|' config/fama.service \
        > "$tree/usr/lib/systemd/system/fama.service"
    "$out/fama" man --out "$tree/usr/share/man/man1"
    gzip -9n "$tree"/usr/share/man/man1/*
    while read -r shell file; do
        mkdir -p "$tree/usr/share/${file%/*}"
        "$out/fama" completions "$shell" > "$tree/usr/share/$file"
    done <<END
bash bash-completion/completions/fama
zsh zsh/vendor-completions/_fama
fish fish/vendor_completions.d/fama.fish
END
    doc="$tree/usr/share/doc/fama"
    mkdir -p "$doc"
    copyright > "$doc/copyright"
    install -m 644 docs/*.md config/prometheus-rules.yml config/grafana.json config/nginx.conf config/Caddyfile "$doc"
    gzip -9nc CHANGELOG.md > "$doc/changelog.gz"
    {
        printf 'fama (%s) stable; urgency=medium\n\n  * See changelog.gz.\n\n' "$version"
        printf ' -- The Fama developers <packages@fama.example>  %s\n' "$(date -uR -d "@$SOURCE_DATE_EPOCH")"
    } | gzip -9nc > "$doc/changelog.Debian.gz"
}

make_deb() {
    mkdir -p "$out"
    strip --strip-all -o "$out/fama" "$program"
    work="$(mktemp -d "$out/deb.XXXXXX")"
    stage "$work/tree"
    libraries="$(libraries "$work")"
    size="$(du -sk --apparent-size "$work/tree" | cut -f 1)"
    mkdir "$work/tree/DEBIAN"
    sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
        -e "s/@LIBRARIES@/$libraries/" config/debian/control > "$work/tree/DEBIAN/control"
    echo /etc/fama/node.toml > "$work/tree/DEBIAN/conffiles"
    ( cd "$work/tree" && find usr -type f -print0 | sort -z | xargs -0 md5sum ) > "$work/tree/DEBIAN/md5sums"
    for script in postinst prerm postrm; do
        install -m 755 "config/debian/$script" "$work/tree/DEBIAN/$script"
    done
    # Much faster than the default, for a seventh more.
    dpkg-deb -Zxz -z1 --root-owner-group --build "$work/tree" "$out/$deb" >&2
    rm -rf "$work"
    echo "$out/$deb"
}

# A small Debian as an archive, made once for this machine: what is essential, and what the program needs.
make_base() {
    base="$cache/small-$suite-$architecture.tar"
    if [ ! -e "$base" ]; then
        mkdir -p "$cache"
        say "making a base from Debian's packages, once for this machine: $base"
        without=""
        for part in locale info man doc; do without="$without --dpkgopt=path-exclude=/usr/share/$part/*"; done
        set -f
        # shellcheck disable=SC2086
        mmdebstrap --quiet --variant=essential --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
            --include=usr-is-merged,libstdc++6,passwd,ca-certificates --architectures="$architecture" $without \
            --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-include=/usr/share/doc/fama/*' \
            "$suite" "$base.$$.tar" >&2
        set +f
        # Whole or not at all: whoever finds the archive may use it.
        mv "$base.$$.tar" "$base"
    fi
    echo "$base"
}

make_image() {
    work="$(mktemp -d "$out/image.XXXXXX")"
    # A storage of its own, gone afterwards. It needs no support of the kernel, and neither does `chroot`.
    in_storage() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@" >&2; }
    if [ -n "${FAMA_BASE:-}" ]; then
        base="$FAMA_BASE"
    else
        base=localhost/debian:$suite
        in_storage from --name base scratch
        in_storage add --quiet base "$(make_base)" /
        in_storage commit --quiet --format docker --timestamp "$SOURCE_DATE_EPOCH" base "$base"
        in_storage rm base
    fi
    mkdir "$work/context"
    ln "$out/$deb" "$work/context/fama.deb" 2>/dev/null || cp "$out/$deb" "$work/context/fama.deb"
    # In Docker's format, which all engines read too: OCI's has no place for a health check.
    in_storage bud --isolation chroot --format docker --timestamp "$SOURCE_DATE_EPOCH" --build-arg "BASE=$base" \
        --build-arg "VERSION=$version" --tag "fama:$version" --file config/Containerfile "$work/context"
    rm -f "$out/$image"
    in_storage push --quiet "fama:$version" "docker-archive:$out/$image:localhost/fama:$version"
    rm -rf "$work"
    echo "$out/$image"
}

for what in "${@:-deb}"; do
    "make_$what"
done
