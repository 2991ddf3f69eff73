#!/usr/bin/env bash
# Compiles probe.c and an emitted plan against our own headers, and against the vendor's where those can be fetched; says so
# where they cannot. Nothing is run, nothing fetched is kept.
#
#   run.sh [VERSION ..]     releases of torch-npu whose headers to look at, instead of the default one
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
strict=(-Wall -Wextra -Werror -fsyntax-only)

# check HEADERS.. : the flags that find them
check() {
    "${CC:-cc}" -std=c11 -Dconstexpr=const "${strict[@]}" "$@" "$here/probe.c"
    "${CXX:-c++}" -std=c++17 -x c++ "${strict[@]}" "$@" "$here/probe.c"
    "${CXX:-c++}" -std=c++17 "${strict[@]}" "$@" "$here/sample.cpp"
}

if ! command -v "${CXX:-c++}" > /dev/null; then
    echo "skipped: there is no C++ compiler"
    exit 0
fi
check -I "$here/../include"
"${CXX:-c++}" -std=c++17 -x c++ "${strict[@]}" -I "$here/../include" -include "$here/../include/aclnnop/aclnnop.h" "$here/sample.cpp"
echo "our own headers: the facts hold, an emitted plan compiles"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[ "$#" -gt 0 ] || set -- ""
for version in "$@"; do
    status=0
    "$here/fetch.sh" "$work/real$version" ${version:+"$version"} > "$work/log" 2>&1 || status=$?
    if [ "$status" = 3 ]; then
        echo "skipped: the vendor's headers are not served here ($(head -n 1 "$work/log"))"
        continue
    elif [ "$status" != 0 ]; then
        cat "$work/log" >&2
        exit "$status"
    fi
    # The vendor's first; of ours, what these do not have: the objects of aclnn.
    flags=$(cat "$work/real$version/CFLAGS")
    hccl=$work/real$version/third_party/hccl/inc
    # shellcheck disable=SC2086
    [ ! -e "$hccl/hccl/hccl.h" ] || flags="$flags -I$hccl"
    mkdir -p "$work/ours"
    cp -r "$here/../include/aclnn" "$work/ours/"
    # shellcheck disable=SC2086
    check ${flags//-I/-isystem } -I "$work/ours"
    echo "$(cat "$work/log"): the facts hold, an emitted plan compiles" | sed "s, in $work.*:,:,"
done
