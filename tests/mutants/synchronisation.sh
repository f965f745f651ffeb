#!/usr/bin/env bash
# Is every barrier of the kernels needed, and would its loss be noticed? Removes one statement at a time from a scratch copy of the current commit:
# each __syncthreads, each wait for the previous kernel, each wait for copies, each fence. A test must then fail on the host CUDA, which looks for
# races. Writes the rows of these files to synchronisation.md. It is an error if no test fails.
#
#   tests/mutants/synchronisation.sh               all files
#   tests/mutants/synchronisation.sh attention     files whose names begin with this
set -uo pipefail
export TILLER_HOST_CUDA_CHECKS=races
. "$(dirname "$0")/scratch.sh"

fails() {
    timeout 1800 dotnet test -c Release --no-build tests/Tiller.Tests.csproj --filter "TestCategory=CUDA&($1)" -- NUnit.StopOnError=true >"$log" 2>&1
    grep -qE '^ +Failed |Test Run Aborted|test run was aborted' "$log"
}

# Tests that fail with nothing taken away show nothing: of each choice of tests that has caught something it is asked once.
declare -A sound
caught() {
    fails "$1" || return 1
    [ -z "${sound[$1]:-}" ] || return 0
    cp "$log" "$log.caught"
    git diff >"$log.patch"
    git checkout --quiet -- .
    if fails "$1"; then
        echo "$1: fails with nothing taken away"
        exit 2
    fi
    sound[$1]=yes
    git apply --whitespace=nowarn "$log.patch"
    mv "$log.caught" "$log"
}

wanted() {
    local name=$1 prefix
    shift
    [ $# -eq 0 ] && return
    for prefix in "$@"; do [[ $name == "$prefix"* ]] && return; done
    return 1
}

# Runs the tests of the file's own kernels, then those of all kernels, then all tests, until one fails.
caught_by() {
    local kernels='FullyQualifiedName~Tiller.Tests.Kernels.' own=$1
    own=${own%%.*}
    own=${own%%_*}
    case $own in steering) own=Steer ;; sampling | softmax) own=Sample ;; quads) own=Norm ;; ceilings) own=Ceiling ;; esac
    caught "$kernels${own^}" || caught "$kernels" || caught 'FullyQualifiedName~Tiller.Tests'
}

commit=$(git rev-parse --short HEAD)
survived=0
earlier='which (several .* of warp|several warps|thread) ?[0-9]* ?at ([^ ]+) (read|wrote)'
statements='__syncthreads\(\)|__threadfence\(\)|tillerWaitForPredecessor\(\)|tillerWaitForCopies<.*>\(\)'
sites=$(grep -nE "^ *(if \\(.*\\) \\{ )?($statements);" src/Kernels/*.cu src/Kernels/*.cuh)
while IFS=: read -r file line text; do
    name=$(basename "$file")
    wanted "$name" "$@" || continue
    statement=$(grep -oE '(__syncthreads|__threadfence|tillerWaitForPredecessor|tillerWaitForCopies<[^>]*>)\(\)' <<<"$text" | head -n 1)
    sed -i -E "${line}s/(__syncthreads|__threadfence|tillerWaitForPredecessor|tillerWaitForCopies<[^>]*>)\(\);//" "$file"
    if caught_by "$name"; then
        by=$(grep -oE 'race: .*|no thread waits.*|writes device memory before.*|threads wait at .*' "$log" | head -n 1 |
            sed -E "s/race: thread [0-9]+ at ([^ ]+) (reads|writes) (shared|device) memory 0x[0-9a-f]+, $earlier, /race, \\1 \\2 what \\5 \\6: /")
        [ -n "$by" ] || by=$(sed -nE 's/^ +Failed (.*) \[.*$/`\1`/p' "$log" | head -n 1)
        echo "$name:$line $statement: $by"
        echo "| $name:$line | \`$statement\` | $by | $commit |" >>"$table"
    else
        echo "$name:$line $statement: SURVIVED"
        echo "| $name:$line | \`$statement\` | **nothing** | $commit |" >>"$table"
        survived=$((survived + 1))
    fi
    git checkout --quiet -- .
done <<<"$sites"

# Rows of other files stay.
while IFS= read -r row; do
    name=$(sed -E 's/^\| ([a-z_.]+):.*/\1/' <<<"$row")
    wanted "$name" "$@" || echo "$row" >>"$table"
done < <(grep -E '^\| [a-z_]+\.cuh?:' "$here/synchronisation.md" 2>/dev/null)
{
    echo "# Barriers, waits and fences of the kernels"
    echo
    echo "\`tests/mutants/synchronisation.sh\` removes them one at a time and runs the CUDA tests on the host CUDA, which looks for races;"
    echo "a test must fail. The table gives the first finding, a race or a failed test, and the commit."
    echo
    echo "| where | without | found | commit |"
    echo "|---|---|---|---|"
    sort -t: -k1,1 -k2,2n "$table"
} >"$scratch.md"
mv "$scratch.md" "$here/synchronisation.md"
echo "$survived survived"
[ $survived -eq 0 ]
