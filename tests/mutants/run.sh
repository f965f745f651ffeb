#!/usr/bin/env bash
# Does the suite notice defects? Applies each patch of this folder by itself to a scratch copy of the current commit, builds the engine and runs
# tests: first those that the patch's header names, then, if these pass, all. Writes README.md, which lists the tests that noticed each defect.
# It is an error if no test fails, or if a patch does not apply or does not compile.
#
#   tests/mutants/run.sh               all patches
#   tests/mutants/run.sh 03 17         patches whose names begin with these; README.md is not written
set -uo pipefail
. "$(dirname "$0")/scratch.sh"

# Replaces the engine under the tests by that of the patched sources. Nothing else depends on more than its signatures.
rebuild() {
    dotnet build -c Release src/Engine/Tiller.Engine.csproj -p:RunAnalyzers=false -p:EnforceCodeStyleInBuild=false \
        -p:TreatWarningsAsErrors=false >"$log" 2>&1 &&
        cp artifacts/bin/Tiller.Engine/release/Tiller.Engine.dll artifacts/bin/Tiller.Tests/release/
}

# Runs tests; succeeds if one fails. That each patch applies is itself a test, which a patched tree cannot pass.
caught() {
    timeout 1800 dotnet test -c Release --no-build tests/Tiller.Tests.csproj --filter "($1)&FullyQualifiedName!~MutantTests" >"$log" 2>&1
    local code=$?
    [ $code -eq 124 ] && echo "  Failed (no end after half an hour) [" >>"$log"
    grep -q 'Test Run Aborted\|test run was aborted' "$log" && echo "  Failed (the test process died) [" >>"$log"
    grep -qE '^ +Failed ' "$log"
}

survived=0
broken=0
for patch in "$here"/*.patch; do
    name=$(basename "$patch" .patch)
    if [ $# -gt 0 ]; then
        for wanted in "$@"; do [[ $name == "$wanted"* ]] && break; done
        [[ $name == "$wanted"* ]] || continue
    fi
    defect=$(sed -n 's/^Defect: //p' "$patch")
    first=$(sed -n 's/^First: //p' "$patch")
    filter=$(sed -E 's/([^|]+)/FullyQualifiedName~.\1./g' <<<"$first")
    if ! file=$("$here/apply.pl" "$patch") || ! rebuild; then
        echo "$name: does not apply or does not compile"
        tail -n 3 "$log"
        broken=$((broken + 1))
    elif caught "$filter" || { echo "$name: not by $first; running all"; caught "FullyQualifiedName~Tiller.Tests"; }; then
        names=$(sed -nE 's/^ +Failed (.*) \[.*$/\1/p' "$log" | sort -u)
        count=$(wc -l <<<"$names")
        shown=$(sed -E 's/\(.*//' <<<"$names" | sort -u | head -n 3 | sed 's/.*/`&`/' | paste -sd, - | sed 's/,/, /g')
        echo "$name: caught by $count: $shown"
        echo "| ${name%%-*} | $defect | $(sed 's,^src/Engine/,,' <<<"$file") | $count | $shown |" >>"$table"
    else
        echo "$name: SURVIVED"
        echo "| ${name%%-*} | $defect | $(sed 's,^src/Engine/,,' <<<"$file") | 0 | **nothing** |" >>"$table"
        survived=$((survived + 1))
    fi
    git checkout --quiet -- .
done

if [ $# -eq 0 ]; then
    {
        echo "# Checks of the checks"
        echo
        echo "Each patch in this folder is a defect that a careless change could bring. \`tests/mutants/run.sh\` applies one at a time, builds"
        echo "and tests; the suite must fail. Last run on commit $(git rev-parse --short=12 HEAD). The tests named in the patch's"
        echo "header run first, and all tests if these pass. The table counts the test cases that fail."
        echo
        echo "| | defect | file | failing | among them |"
        echo "|---|---|---|---|---|"
        cat "$table"
    } >"$here/README.md"
fi
echo "$survived survived, $broken broken"
[ $survived -eq 0 ] && [ $broken -eq 0 ]
