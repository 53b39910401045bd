#!/usr/bin/env bash
# Installs what is missing on a bare Debian 12 (or a relative of it). Does nothing, quickly, where
# all is there. Arguments choose what for: build, run, test, chaos, bench.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
need() { # need COMMAND PACKAGE: the package, unless the command is there
    command -v "$1" >/dev/null 2>&1 || packages+=("$2")
}

for purpose in "$@"; do
    case $purpose in
    build)
        need cc build-essential
        need git git
        ;;
    run)
        need git git
        need npm npm
        need python3 python3
        ;;
    test)
        need git git
        need npm npm
        need python3 python3
        need curl curl
        need gdb gdb
        need node nodejs
        need mkfs.btrfs btrfs-progs
        need mkfs.xfs xfsprogs
        need script bsdutils
        need ssh openssh-client
        need rsync rsync
        need unshare util-linux
        python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
        ;;
    chaos)
        need faketime faketime
        ;;
    bench)
        need bwrap bubblewrap
        need ssh openssh-client
        [ -x /usr/sbin/sshd ] || packages+=(openssh-server)
        need crun crun
        need runc runc
        need podman podman
        need mkfs.btrfs btrfs-progs
        need mkfs.xfs xfsprogs
        need restic restic
        need wrk wrk
        need zstd zstd
        ;;
    *)
        echo "setup.sh: build, run, test, chaos or bench, not '$purpose'" >&2
        exit 2
        ;;
    esac
done

if ((${#packages[@]})); then
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "Installing ${packages[*]} …" >&2
    log=$(mktemp)
    if ! { $sudo apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
        $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
        tail -20 "$log" >&2
        echo "setup.sh: could not install ${packages[*]}" >&2
        exit 1
    fi
    rm -f "$log"
fi

# E2B's own client libraries, as their lock files pin them, for the tests of what they speak.
sdks=crates/rclaude/tests/e2b
sdk_python() { # sdk_python LOCK DIRECTORY
    cmp -s "$1" "$2/lock.txt" && return
    rm -rf "$2"
    python3 -m venv "$2"
    "$2/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r "$1"
    cp "$1" "$2/lock.txt"
}
sdk_js() { # sdk_js DIRECTORY
    cmp -s $sdks/js/package-lock.json "$1/lock.json" && return
    rm -rf "$1"
    mkdir -p "$1"
    cp $sdks/js/package.json $sdks/js/package-lock.json "$1"
    (cd "$1" && npm ci --silent --no-audit --no-fund)
    cp $sdks/js/package-lock.json "$1/lock.json"
}
for purpose in "$@"; do
    [ "$purpose" = test ] || continue
    for lock in "$sdks"/python/e2b-*.txt; do
        name=${lock##*/e2b-}
        sdk_python "$lock" ".tools/e2b/py-${name%.txt}"
    done
    sdk_js .tools/e2b/js
done

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup.sh: cargo is missing; install Rust with rustup, then run this again" >&2
    exit 1
fi
