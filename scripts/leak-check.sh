#!/bin/sh
# Prints what is left of sandboxes, and fails if anything is: processes, mounts in any namespace,
# loop devices, directories, cgroups.
#
#   scripts/leak-check.sh DIR      of the sandboxes of one engine directory
#   scripts/leak-check.sh --all    on the whole host
set -eu

processes() { # processes WORD: supervisors and daemons whose command line holds WORD
    for file in /proc/[0-9]*/cmdline; do
        pid=${file%/cmdline} pid=${pid#/proc/}
        arguments=$({ tr '\0' ' ' <"$file"; } 2>/dev/null) || continue
        case "$arguments" in
        *"__supervisor --dir $1"*) echo "process $pid: $arguments" ;;
        esac
        case "$(readlink "/proc/$pid/exe" 2>/dev/null)" in
        "$1"*/agentd-*) echo "process $pid: a sandbox's daemon" ;;
        esac
    done
}

cgroups() { # cgroups NAME: those of sandboxes of that name
    find /sys/fs/cgroup -type d -path "*/rclaude-*/$1" 2>/dev/null | sed 's|^|cgroup |'
}

loops() { # loops DIR: loop devices with the disk of an engine under DIR
    for file in /sys/block/loop*/loop/backing_file; do
        image=$({ cat "$file"; } 2>/dev/null) || continue
        case "$image" in
        "$1"*/disk.img | "$1"*"/disk.img (deleted)") echo "loop device ${file%/loop/*}: $image" ;;
        esac
    done
}

case "${1:?usage: leak-check.sh DIR | --all}" in
--all)
    left=$(
        processes ""
        loops ""
        cgroups 'sbx_*'
    )
    ;;
*)
    dir=$(readlink -f "$1")
    left=$(
        processes "$dir"
        loops "$dir"
        for file in /proc/[0-9]*/mountinfo; do
            grep -F " $dir/" "$file" 2>/dev/null | sed "s|^|mount (${file%/mountinfo}): |" || :
        done
        for root in "$dir" "$dir/disk"; do
            for id in $(ls "$root/sandboxes" 2>/dev/null) $(ls "$root/trash" 2>/dev/null); do
                echo "directory $root/*/$id"
                cgroups "$id"
            done
        done
    )
    ;;
esac

[ -z "$left" ] || {
    echo "$left"
    exit 1
}
