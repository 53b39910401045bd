#!/bin/sh
# Prints what is left of sandboxes, and fails if anything is: processes, mounts in any namespace,
# directories, cgroups.
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

case "${1:?usage: leak-check.sh DIR | --all}" in
--all)
    left=$(
        processes ""
        cgroups 'sbx_*'
    )
    ;;
*)
    dir=$(readlink -f "$1")
    left=$(
        processes "$dir"
        for file in /proc/[0-9]*/mountinfo; do
            grep -F " $dir/" "$file" 2>/dev/null | sed "s|^|mount (${file%/mountinfo}): |" || :
        done
        for id in $(ls "$dir/sandboxes" 2>/dev/null) $(ls "$dir/trash" 2>/dev/null); do
            echo "directory $dir/*/$id"
            cgroups "$id"
        done
    )
    ;;
esac

[ -z "$left" ] || {
    echo "$left"
    exit 1
}
