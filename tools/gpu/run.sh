#!/usr/bin/env bash
# Proves and measures Tiller on a GPU, in as little time on the GPU's machine as can be.
#
#   run.sh pack                           here: tiller as one native file and the test suite as a program, in artifacts/gpu/tiller-gpu.tar.xz
#   run.sh device CALL... [--out D]       there, in a checkout of the same commit with that archive: first, second, third, or phases by name
#   run.sh device --rehearse CALL...      here: the same on the host CUDA, at tiny sizes
#
#   first    build ceilings decode verify tests memcheck ncu      at most 320 s
#   second   kernels prefill jacobian riccati batch long variants at most 230 s; long is decoding at 4096 tokens
#   third    peers (peers.py)                                     at most 130 s
#   later    shapes fit load sanitize, and peers --peers RUNS     by name
#
# Each step is a process with 40 s at most (device.py, steps.py). The folder of results (artifacts/gpu/results, or --out) gets rows.jsonl, where every
# row is as soon as it is measured, log.txt, and gpu-<device>.md, which is written anew after every phase (report.py). What calls leave for each other
# is in tiller-gpu in the temporary folder, or --work: where it is gone, a call builds first.
# The GPU's machine needs the driver, bash and python3; nvcc and cmake, else NVRTC; .NET it needs not.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
archive=artifacts/gpu/tiller-gpu.tar.xz

die() { echo "run.sh: $*" >&2; exit 2; }

# Bytes of what goes to the GPU's machine: the files of the checkout that git does not ignore, and the archive.
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
    # PTX in the binaries: what they fall back to where there is neither nvcc nor NVRTC.
    cmake -B build -DTILLER_HOST_CUDA=OFF > /dev/null && cmake --build build -j2 > /dev/null ||
        echo "no PTX: cmake found no clang (tools/setup.sh installs it)" >&2
    dotnet publish tools/Tiller -c Release -r linux-x64 -p:PublishAot=true -o "$stage/tiller" || die "the native build failed"
    dotnet publish tests/Tiller.Tests.csproj -c Release -r linux-x64 -p:TillerTestProgram=true -o "$stage/tests" ||
        die "the test program failed to build"
    # The checkout has the models; debug symbols, documentation and the coverage tools stay here.
    rm -rf "$stage"/*/models "$stage"/tiller/*.dbg "$stage"/tests/{Microsoft.CodeCoverage,libmscordaccore.so,libmscordbi.so} &&
        find "$stage" -name '*.pdb' -o -name '*.xml' | xargs rm -f
    # So do the parts of ASP.NET that the service does not use, and the runtime's other garbage collectors and its tracing.
    rm -f "$stage"/tests/Microsoft.AspNetCore.{Mvc,Components,Razor,SignalR,Identity}*.dll \
        "$stage"/tests/{libclrgc,libclrgcexp,libcoreclrtraceptprovider}.so
    git rev-parse HEAD > "$stage/commit.txt"
    git diff --quiet HEAD -- || echo "with changes that are not committed" >> "$stage/commit.txt"
    tar -C "$stage" -cf - . | nice xz -T0 -9e > "$archive" || die "tar failed"
    rm -r "$stage"
    size=$(stat -c %s "$archive") all=$(travels "$archive")
    echo "$archive: $((size >> 20)) MiB; with the checkout $((all >> 20)) MiB travel"
    [ "$all" -le "$most" ] || die "more than $((most >> 20)) MiB travel: the archive, and what git does not ignore"
}

case ${1:-} in
    pack) pack ;;
    travels) travels "${2:-$archive}" ;;
    device) shift; exec python3 tools/gpu/device.py "$@" ;;
    *) sed -n '2,20p' "$0"; exit 2 ;;
esac
