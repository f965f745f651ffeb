#!/usr/bin/env bash
# Tests and measures Tiller on a GPU, in as little time on the machine with the GPU as possible.
#
#   run.sh pack                           here: packs tiller as a native program, and the test suite, into artifacts/gpu/tiller-gpu.tar.xz
#   run.sh device CALL... [--out D]       there, in a checkout of the same commit with that archive; CALL is first, second, third, or a phase
#   run.sh device --rehearse CALL...      here: the same on the host CUDA, at tiny sizes
#
#   first    build ceilings decode verify tests memcheck ncu               at most 320 s
#   second   kernels prefill jacobian riccati batch long variants          at most 230 s; long is decoding at 4096 tokens
#   third    peers (peers.py)                                              at most 130 s
#   later    shapes fit load sanitize, and peers --peers RUNS              by name
#
# Each step is a process with a limit of 40 s (device.py, steps.py). The folder of results (artifacts/gpu/results, or --out) gets rows.jsonl with
# every row as soon as it is measured, log.txt, and gpu-<device>.md, which is written again after every phase (report.py). Calls share the folder
# tiller-gpu in the temporary folder, or --work; if it is missing, a call builds first.
# The machine with the GPU needs the driver, bash, python3, and nvcc with cmake, or NVRTC. It does not need .NET.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
archive=artifacts/gpu/tiller-gpu.tar.xz

die() { echo "run.sh: $*" >&2; exit 2; }

# Size in bytes of everything that is copied to the machine with the GPU: the archive, and the files of the checkout that git does not ignore.
travels() { # archive
    {
        git ls-files -z --cached --others --exclude-standard --deduplicate | xargs -0 stat -c %s -- 2> /dev/null
        stat -c %s "$1"
    } | awk '{ bytes += $1 } END { printf "%.0f\n", bytes }'
}

pack() {
    export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
    local stage=artifacts/gpu/stage most=$((64 << 20)) size all
    rm -rf "$stage" && mkdir -p "$stage" || die "cannot write $stage"
    # The binaries contain PTX, which is used if the machine has neither nvcc nor NVRTC.
    cmake -B build -DTILLER_HOST_CUDA=OFF > /dev/null && cmake --build build -j2 > /dev/null ||
        echo "no PTX, because cmake found no clang (tools/setup.sh installs it)" >&2
    dotnet publish tools/Tiller -c Release -r linux-x64 -p:PublishAot=true -o "$stage/tiller" || die "the native build failed"
    dotnet publish tests/Tiller.Tests.csproj -c Release -r linux-x64 -p:TillerTestProgram=true -o "$stage/tests" ||
        die "the test program failed to build"
    # Not packed: the models, which are in the checkout; debug symbols, documentation and the coverage tools.
    rm -rf "$stage"/*/models "$stage"/tiller/*.dbg "$stage"/tests/{Microsoft.CodeCoverage,libmscordaccore.so,libmscordbi.so} &&
        find "$stage" -name '*.pdb' -o -name '*.xml' | xargs rm -f
    # Nor the parts of ASP.NET that the service does not use, the runtime's other garbage collectors, and its tracing.
    rm -f "$stage"/tests/Microsoft.AspNetCore.{Mvc,Components,Razor,SignalR,Identity}*.dll \
        "$stage"/tests/{libclrgc,libclrgcexp,libcoreclrtraceptprovider}.so
    git rev-parse HEAD > "$stage/commit.txt"
    git diff --quiet HEAD -- || echo "with changes that are not committed" >> "$stage/commit.txt"
    tar -C "$stage" -cf - . | nice xz -T0 -9e > "$archive" || die "tar failed"
    rm -r "$stage"
    size=$(stat -c %s "$archive") all=$(travels "$archive")
    echo "$archive: $((size >> 20)) MiB; with the checkout $((all >> 20)) MiB travel"
    [ "$all" -le "$most" ] || die "more than $((most >> 20)) MiB travel: remove files that git does not ignore from the checkout"
}

case ${1:-} in
    pack) pack ;;
    travels) travels "${2:-$archive}" ;;
    device) shift; exec python3 tools/gpu/device.py "$@" ;;
    *) sed -n '2,20p' "$0"; exit 2 ;;
esac
