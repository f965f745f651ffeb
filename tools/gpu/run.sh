#!/usr/bin/env bash
# Proves and measures Tiller on a GPU, in as little time on the GPU's machine as can be.
#
#   run.sh pack                          here: tiller as one native file and the test suite as a program, in artifacts/gpu/tiller-gpu.tar.xz
#   run.sh device [phase...] [--out D]   there, in a checkout of the same commit with that archive: all phases, or those named
#   run.sh device --rehearse [phase...]  here: the same on the host CUDA, at tiny sizes, to try this script itself
#
# Phases, in this order; each has a limit in seconds (LIMIT_BUILD=90 and so on) and a log of its own:
#   build     unpacks; compiles the kernels with nvcc for the GPU at hand; tiller devices
#   tests     the suite's CUDA tests, a process for each group of fixtures
#   verify    tiller verify on every golden; greedy ids against the CPU's
#   sanitize  compute-sanitizer's four tools over the kernels' tests, or those of SANITIZE_FILTER
#   bench     tiller bench: ceilings, decode, batch, synthesis, load, kernels
#   peers     the same work by PyTorch and transformers (peers.py)
#   report    gpu-<device>.md and rows.json from what the others left (report.py)
#
# The folder of results (artifacts/gpu/results, or --out) gets at most eight files. What phases leave for each other is in WORK
# (default: tiller-gpu in the temporary folder), so that they can run in several calls. A phase that fails does not stop the next.
# The GPU's machine needs the driver, bash, tar, xz, python3; nvcc and cmake, else NVRTC; .NET it needs not.
set -uo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
archive=artifacts/gpu/tiller-gpu.tar.xz
all=(build tests verify sanitize bench peers report)

die() { echo "run.sh: $*" >&2; exit 2; }

pack() {
    export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
    local stage=artifacts/gpu/stage most=$((64 << 20))
    rm -rf "$stage" && mkdir -p "$stage" || die "cannot write $stage"
    # PTX in the binaries: what they fall back to where there is neither nvcc nor NVRTC.
    cmake -B build -DTILLER_HOST_CUDA=OFF > /dev/null && cmake --build build -j2 > /dev/null || echo "no PTX: cmake found no clang (tools/setup.sh installs it)" >&2
    dotnet publish tools/Tiller -c Release -r linux-x64 -p:PublishAot=true -o "$stage/tiller" || die "the native build failed"
    dotnet publish tests/Tiller.Tests.csproj -c Release -r linux-x64 -p:TillerTestProgram=true -o "$stage/tests" || die "the test program failed to build"
    # The checkout has the models; debug symbols, documentation and the coverage tools stay here.
    rm -rf "$stage"/*/models "$stage"/tiller/*.dbg "$stage"/tests/{Microsoft.CodeCoverage,libmscordaccore.so,libmscordbi.so} && find "$stage" -name '*.pdb' -o -name '*.xml' | xargs rm -f
    git rev-parse HEAD > "$stage/commit.txt"
    git diff --quiet HEAD -- || echo "with changes that are not committed" >> "$stage/commit.txt"
    tar -C "$stage" -cf - . | nice xz -T0 -6 > "$archive" || die "tar failed"
    rm -r "$stage"
    local size
    size=$(stat -c %s "$archive")
    echo "$archive: $((size / 1048576)) MiB"
    [ "$size" -le "$most" ] || die "the archive is larger than $((most >> 20)) MiB"
}

# Runs a command with a limit, into a log; keeps what came of it for the report.
step() { # phase limit name command...
    local phase=$1 limit=$2 name=$3 began outcome
    shift 3
    printf '\n== %s: %s\n' "$phase" "$name" | tee -a "$log"
    began=$(date +%s%N)
    # A function needs a shell of its own to be ended in time.
    timeout -k 10 "$limit" bash -c '"$@"' "$name" "$@" >> "$log" 2>&1
    outcome=$?
    printf '%s\t%s\t%s\t%s\n' "$phase" "$name" "$outcome" "$((($(date +%s%N) - began) / 1000000))" >> "$work/steps.tsv"
    [ "$outcome" -eq 0 ] || printf '   exit %s\n' "$outcome" | tee -a "$log"
    return "$outcome"
}

skip() { # phase name why
    printf '\n== %s: %s: skipped, %s\n' "$1" "$2" "$3" | tee -a "$log"
    printf '%s\t%s\tskipped: %s\t0\n' "$1" "$2" "$3" >> "$work/steps.tsv"
}

# What is left of a phase's time; at least a second, so that what is late fails at once and is told.
left() { local now; now=$(date +%s); echo $((deadline > now ? deadline - now : 1)); }

unpack() {
    [ -x "$work/tests/Tiller.Tests" ] && cmp -s "$work/archive.sum" <(sha256sum < "$archive") && return
    [ -f "$archive" ] || die "no $archive: run 'tools/gpu/run.sh pack' where .NET is, and bring the file"
    rm -rf "$work" && mkdir -p "$work/rows" && tar -C "$work" -xJf "$archive" || die "cannot unpack $archive into $work"
    sha256sum < "$archive" > "$work/archive.sum"
    mkdir -p "$work/tiller/models" && ln -s "$root/models/demo" "$work/tiller/models/demo"
}

# Where PyTorch brought its own CUDA libraries: the resolver looks below VIRTUAL_ENV.
libraries() {
    [ -n "${VIRTUAL_ENV:-}" ] || { VIRTUAL_ENV=$(python3 -c 'import sys; print(sys.prefix)' 2> /dev/null) && export VIRTUAL_ENV; }
    [ ! -f "$work/build/kernels/kernels.manifest" ] || export TILLER_KERNEL_IMAGES="$work/build/kernels"
    export TILLER_KERNEL_CACHE="$work/cache" TILLER_REPOSITORY="$root"
    if $rehearse; then
        export TILLER_CUDA_LIBRARIES=${TILLER_CUDA_LIBRARIES:-$root/artifacts/hostcuda/lib} TILLER_KERNEL_IMAGES=off
        [ -e "$TILLER_CUDA_LIBRARIES/libcuda.so.1" ] || die "no host CUDA in $TILLER_CUDA_LIBRARIES: cmake -B artifacts/hostcuda -DTILLER_KERNEL_IMAGES=OFF && cmake --build artifacts/hostcuda"
    fi
}

environment() {
    date -u +'%Y-%m-%d %H:%M UTC'
    cat "$work/commit.txt"
    nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap,clocks.sm,clocks.mem,clocks.max.sm --format=csv 2> /dev/null
    nvcc --version 2> /dev/null | tail -n 2
    lscpu | grep -E 'Model name|^CPU\(s\)'
    # Without the paths of this machine's folders.
    "$work/tiller/tiller" devices | sed "s#$work/##g; s#$root/##g"
}

phase_build() {
    local capability
    if ! $rehearse && command -v nvcc > /dev/null && command -v cmake > /dev/null; then
        capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
        [ "$capability" != 90 ] || capability=90a
        step build "$(left)" "configure for sm_$capability" cmake -S . -B "$work/build" -DTILLER_HOST_CUDA=OFF -DTILLER_KERNEL_PTX=OFF -DTILLER_KERNEL_ARCHITECTURES="$capability"
        step build "$(left)" "nvcc" cmake --build "$work/build" -j "$(nproc)"
    else
        skip build nvcc "not here: the kernels come from NVRTC, or from the PTX in the program"
    fi
    libraries
    environment > "$work/environment.txt" 2>&1
    step build "$(left)" devices "$work/tiller/tiller" devices
    tee -a "$log" < "$work/environment.txt"
}

# A process for each: after a fault the device is lost to its process alone.
groups=(
    Interop.CudaMemory Interop.CudaGraph Interop.CudaKernel Interop.CudaBlas Interop.ImportTests
    Kernels.Norm Kernels.Gate Kernels.Embed Kernels.Qkv Kernels.Steer Kernels.Linear Kernels.Attention Kernels.Head Kernels.Sample Kernels.Cholesky Kernels.Ceiling
    Tensors.CudaAlgebra Tensors.CudaEngine Tool.CudaBench 'Model&FullyQualifiedName~cuda' 'Decode&FullyQualifiedName~cuda' 'Control&FullyQualifiedName~cuda'
    Model Decode Control Features
)

run_tests() { # group
    TILLER_DEVICE=cuda "$work/tests/Tiller.Tests" --filter "FullyQualifiedName~Tiller.Tests.$1" --progress off --no-ansi --show-stdout None \
        --results-directory "$work/results" --show-test-results failed
}

phase_tests() {
    local group
    ! $rehearse || groups=(Interop.CudaMemory Interop.CudaGraph Kernels.Embed Kernels.Ceiling Tensors.CudaAlgebra)
    for group in "${groups[@]}"; do
        step tests "$(left)" "$group" run_tests "$group"
    done
}

same_ids() { # checkpoint
    local prompt="The quick brown fox" device
    for device in cpu cuda; do
        "$work/tiller/tiller" generate --model "$1" "$prompt" --max-tokens "$ids" --device "$device" --json > "$work/ids.$device.json" || return
    done
    python3 tools/gpu/report.py same "$work/ids.cpu.json" "$work/ids.cuda.json"
}

phase_verify() {
    local golden goldens=(tests/goldens/*/)
    ids=48
    ! $rehearse || { goldens=(tests/goldens/qwen2-bf16/); ids=3; }
    if $rehearse; then
        skip verify "tiller verify" "a golden takes minutes on the host CUDA"
    else
        step verify "$(left)" "tiller verify" "$work/tiller/tiller" verify --device cuda "${goldens[@]}"
    fi
    for golden in "${goldens[@]}"; do
        ! compgen -G "$golden/checkpoint/*.safetensors" > /dev/null || step verify "$(left)" "greedy ids, $(basename "$golden")" same_ids "$golden/checkpoint"
    done
}

phase_sanitize() {
    local tool share class filter=${SANITIZE_FILTER:-}
    for class in Norm Gate Embed Qkv Steer Linear Attention Head Sample Cholesky Ceiling; do
        [ -n "${SANITIZE_FILTER:-}" ] || filter+="${filter:+|}FullyQualifiedName~Tiller.Tests.Kernels.$class"
    done
    for tool in memcheck racecheck initcheck synccheck; do
        command -v compute-sanitizer > /dev/null || { skip sanitize "$tool" "no compute-sanitizer here"; continue; }
        # Each of the four gets an equal part of what is left.
        share=$(($(left) / $(case $tool in memcheck) echo 4 ;; racecheck) echo 3 ;; initcheck) echo 2 ;; *) echo 1 ;; esac)))
        TILLER_DEVICE=cuda step sanitize "$share" "$tool" compute-sanitizer --tool "$tool" --error-exitcode 99 --print-limit 20 --target-processes all \
            "$work/tests/Tiller.Tests" --filter "$filter" --progress off --no-ansi --show-test-results failed --results-directory "$work/results"
    done
}

bench() { # file what options...
    local file=$1 what=$2
    shift 2
    "$work/tiller/tiller" bench "$what" --device cuda --seconds "$seconds" --json "$@" > "$work/rows/$file.part" || return
    mv "$work/rows/$file.part" "$work/rows/$file.json"
}

phase_bench() {
    local shape shapes=(llama-3.2-1b llama-3-8b qwen2.5-3b gemma-2-2b qwen2.5-14b) long=4096 short=128
    local synthesis=(llama-3.2-1b llama-3-8b qwen2.5-14b) large=llama-3-8b some=()
    seconds=${SECONDS_PER_ROW:-1}
    if $rehearse; then
        shapes=(2,64,96,4,2,16,1024) synthesis=("${shapes[@]}") large=${shapes[0]} seconds=0.001 long=80 short=8
        some=(--terms 1 --tangents 9)
    fi
    step bench "$(left)" ceilings bench ceilings ceilings
    for shape in "${shapes[@]}"; do
        step bench "$(left)" "decode $shape, $short" bench "decode-$shape-$short" decode --shape "$shape" --context "$short" "${some[@]}"
    done
    for shape in "${shapes[@]}"; do
        step bench "$(left)" "decode $shape, $long" bench "decode-$shape-$long" decode --shape "$shape" --context "$long" "${some[@]}"
    done
    for shape in "${shapes[@]}"; do
        step bench "$(left)" "batch $shape" bench "batch-$shape" batch --shape "$shape" --context "$short" --batch "$($rehearse && echo 1,9 || echo 1,8,64)"
    done
    step bench "$(left)" "fit $large" bench "fit-$large" fit --shape "$large" --prompts "$($rehearse && echo 1 || echo 25)" --fits "$($rehearse && echo reduced || echo factored,reduced)"
    for shape in "${synthesis[@]}"; do
        step bench "$(left)" "jacobian $shape" bench "jacobian-$shape" jacobian --shape "$shape" --context "$($rehearse && echo 8 || echo 32)"
        step bench "$(left)" "riccati $shape" bench "riccati-$shape" riccati --shape "$shape"
    done
    step bench "$(left)" "load $large" bench "load-$large" load --shape "$large"
    for shape in "${synthesis[@]}"; do
        step bench "$(left)" "prefill $shape" bench "prefill-$shape" prefill --shape "$shape" --context "$($rehearse && echo 8 || echo 512)"
    done
    for shape in "${synthesis[@]::2}"; do
        step bench "$(left)" "kernels $shape" bench "kernels-$shape" kernels --shape "$shape" --context "$short" --rows "$($rehearse && echo 1,9 || echo 1,8,9,64,128,256)"
    done
    $rehearse || step bench "$(left)" "fit of the demo model" bench fit-demo fit
}

peer() { # file options...
    local file=$1
    shift
    python3 tools/gpu/peers.py "$@" > "$work/rows/$file.part" || return
    mv "$work/rows/$file.part" "$work/rows/$file.json"
}

phase_peers() {
    if ! python3 -c 'import torch, transformers; assert torch.cuda.is_available()' 2> /dev/null; then
        skip peers "all" "no python3 here with transformers and a PyTorch that sees a GPU"
        return
    fi
    export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
    step peers "$(left)" "llama-3.2-1b" peer peers-llama-3.2-1b --shape llama-3.2-1b
    step peers "$(left)" "llama-3-8b" peer peers-llama-3-8b --shape llama-3-8b
    step peers "$(left)" "llama-3-8b, 4096" peer peers-llama-3-8b-4096 --shape llama-3-8b --context 4096 --what eager,hooks,compiled
    step peers "$(left)" "qwen2.5-3b" peer peers-qwen2.5-3b --shape qwen2.5-3b --what eager,compiled
    step peers "$(left)" "gemma-2-2b" peer peers-gemma-2-2b --shape gemma-2-2b --what eager,compiled
    step peers "$(left)" "qwen2.5-14b" peer peers-qwen2.5-14b --shape qwen2.5-14b --what eager,hooks
}

phase_report() { step report 60 report python3 tools/gpu/report.py write "$out" "$work"; }

device() {
    local phases=() phase limit
    export work seconds ids
    rehearse=false out=artifacts/gpu/results work=${WORK:-${TMPDIR:-/tmp}/tiller-gpu}
    while [ $# -gt 0 ]; do
        case $1 in
            --rehearse) rehearse=true ;;
            --out) [ $# -gt 1 ] || die "--out takes a folder"; out=$2; shift ;;
            *) [[ " ${all[*]} " == *" $1 "* ]] || die "a phase is one of ${all[*]}, got '$1'"; phases+=("$1") ;;
        esac
        shift
    done
    $rehearse && work=$work-rehearsal && out=$out-rehearsal
    [ ${#phases[@]} -gt 0 ] || phases=("${all[@]}")
    mkdir -p "$out" || die "cannot write $out"
    unpack
    libraries
    declare -A limits=([build]=${LIMIT_BUILD:-80} [tests]=${LIMIT_TESTS:-150} [verify]=${LIMIT_VERIFY:-40} [sanitize]=${LIMIT_SANITIZE:-180} [bench]=${LIMIT_BENCH:-400}
        [peers]=${LIMIT_PEERS:-300} [report]=30)
    for phase in "${all[@]}"; do
        [[ " ${phases[*]} " == *" $phase "* ]] || continue
        deadline=$(($(date +%s) + ${limits[$phase]}))
        # What an earlier run of the phase left is out of date.
        [ ! -f "$work/steps.tsv" ] || sed -i "/^$phase\t/d" "$work/steps.tsv"
        # Six logs, the report and its rows are eight files.
        log=$out/$phase.log
        [ "$phase" != report ] || log=$work/report.log
        : > "$log"
        "phase_$phase"
    done
    printf '\n'
    awk -F'\t' '{ printf "%-9s %-44s %7.1f s  %s\n", $1, $2, $4 / 1000, $3 == 0 ? "ok" : ($3 == 124 || $3 == 137) ? "out of time" : $3 ~ /^skip/ ? $3 : "exit " $3 }' "$work/steps.tsv"
    awk -F'\t' '$3 != 0 && $3 !~ /^skip/ { bad = 1 } END { exit bad }' "$work/steps.tsv"
}

# What steps run in shells of their own.
export -f run_tests same_ids bench peer

case ${1:-} in
    pack) pack ;;
    device) shift; device "$@" ;;
    *) sed -n '2,25p' "$0"; exit 2 ;;
esac
