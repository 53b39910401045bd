#!/bin/sh
# Prints what is left of the sandboxes of an engine directory, and fails if anything is:
# cgroups, processes, mounts in any namespace, directories, sockets.
#
#   scripts/leak-check.sh <engine directory>
set -eu
dir=$(readlink -f "${1:?usage: leak-check.sh <engine directory>}")
left=$(
    for file in /proc/[0-9]*/cmdline; do
        pid=${file%/cmdline} pid=${pid#/proc/}
        arguments=$(tr '\0' ' ' <"$file" 2>/dev/null) || continue
        case "$arguments" in *"__supervisor --dir $dir "*) echo "process $pid: $arguments" ;; esac
    done
    for file in /proc/[0-9]*/mountinfo; do
        grep -F " $dir/" "$file" 2>/dev/null | sed "s|^|mount (${file%/mountinfo}): |" || :
    done
    for id in $(ls "$dir/sandboxes" 2>/dev/null) $(ls "$dir/trash" 2>/dev/null); do
        echo "directory $dir/*/$id"
        find /sys/fs/cgroup -type d -name "$id" 2>/dev/null | sed 's|^|cgroup |'
    done
    # Every cgroup of ours names the sandbox; those whose engine is gone belong to nobody.
    find /sys/fs/cgroup -type d -path '*/rclaude-*/sbx_*' 2>/dev/null | while read -r group; do
        [ -n "$(cat "$group/cgroup.procs" 2>/dev/null)" ] || continue
        for pid in $(cat "$group/cgroup.procs"); do
            case "$(readlink "/proc/$pid/exe" 2>/dev/null)" in
            "$dir"/*) echo "cgroup $group holds process $pid" ;;
            esac
        done
    done
)
[ -z "$left" ] && exit 0
echo "$left"
exit 1
