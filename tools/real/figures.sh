#!/usr/bin/env bash
# Takes all figures of tools/Bench/results/smollm2-2core.md anew, as the rows of its tables: of the native tool as a whole (best wall time and
# least peak memory of several runs), then of `tiller bench`, in the native tool too. The machine should have nothing else to do. Needs GNU
# time, and what a native build needs.
#
#   tools/real/figures.sh MODEL [RUNS]     MODEL as tools/real or `tiller pull` leaves it; 4 runs unless said otherwise
set -euo pipefail
[ $# -ge 1 ] && [ -f "$1/config.json" ] || { echo "usage: tools/real/figures.sh MODEL [RUNS]" >&2; exit 2; }
model=$(cd "$1" && pwd)
runs=${2:-4}
cd "$(dirname "$0")/../.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
command -v /usr/bin/time >/dev/null || { echo "GNU time is missing: apt-get install time" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

dotnet publish tools/Tiller -c Release -r linux-x64 -p:PublishAot=true -p:CopyOutputSymbolsToPublishDirectory=false -o "$work/native" \
    >"$work/log" 2>&1 ||
    { tail "$work/log" >&2; exit 1; }
tiller=$work/native/tiller

# row NAME RUNS ARGUMENTS: best time and its tool's own summary, least peak memory.
row() {
    local name=$1 times=$2 best=999999 least=999999999 seconds kilobytes said=""
    shift 2
    for ((i = 0; i < times; i++)); do
        /usr/bin/time -f '%e %M' -o "$work/time" "$tiller" "$@" >"$work/out" 2>"$work/err" || { cat "$work/err" >&2; exit 1; }
        read -r seconds kilobytes <"$work/time"
        if awk "BEGIN { exit !($seconds < $best) }"; then best=$seconds said=$(grep -m 1 'tok/s' "$work/err" || true); fi
        [ "$kilobytes" -lt "$least" ] && least=$kilobytes
    done
    said=${said#tiller: }
    echo "| $name | $best s | ${said%%, logits*} | $((least / 1024)) MiB |"
}

# Texts of about 512 and 4,000 tokens: the first lines of the demo's contrast, over and over.
words() { cat models/demo/contrast/*.txt | tr '\n' ' ' | cut -c "1-$1"; }
words 2300 >"$work/long.txt"
for _ in 1 2 3 4 5 6 7 8; do words 2300; done | tr '\n' ' ' >"$work/longer.txt"
head -n 8 tools/real/prompts/mood.positive.txt >"$work/positive.txt"
head -n 8 tools/real/prompts/mood.negative.txt >"$work/negative.txt"
fit=(fit --model "$model" --chat --positive "$work/positive.txt" --negative "$work/negative.txt" --out "$work/mood.tiller")

lscpu | sed -nE 's/^(Model name|CPU\(s\)): +/\1: /p'
echo "commit $(git rev-parse --short HEAD), load $(cut -d ' ' -f 1 /proc/loadavg), .NET $(dotnet --version)"
echo
echo "| | time | the tool's own figures | peak memory |"
echo "|---|---|---|---|"
row "load, start and one token" "$runs" generate --model "$model" --temperature 0 --max-tokens 1 "Once"
row "\`generate\`, 64 tokens" "$runs" generate --model "$model" --temperature 0 --max-tokens 64 "Once upon a time there was"
row "\`fit --cost feature\`, 8 + 8 short texts" "$runs" "${fit[@]}" --cost feature
row "\`steer\` with this controller, 64 tokens" "$runs" steer --model "$model" --controller "$work/mood.tiller" --lambda 1 \
    --temperature 0 --max-tokens 64 "Once upon a time there was"
row "prompt of about 580 tokens, one token" "$runs" generate --model "$model" --temperature 0 --max-tokens 1 "$(cat "$work/long.txt")"
row "prompt of about 4,650 tokens; 32 tokens after it" 2 generate --model "$model" --temperature 0 --max-tokens 32 "$(cat "$work/longer.txt")"
row "the same, keys and values in bfloat16" 2 generate --model "$model" --kv bf16 --temperature 0 --max-tokens 32 "$(cat "$work/longer.txt")"
row "\`fit\`, dense, 8 + 8 short texts" 2 "${fit[@]}"
echo
"$tiller" bench decode --shape smollm2-135m
"$tiller" bench batch --shape smollm2-135m --batch 1 --context 4681
"$tiller" bench batch --shape smollm2-135m --batch 1 --context 4681 --kv bf16
"$tiller" bench prefill --shape smollm2-135m
"$tiller" bench eval --shape smollm2-135m --batch 8 --seconds 10
"$tiller" bench tokenize
