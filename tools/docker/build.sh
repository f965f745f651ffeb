#!/usr/bin/env bash
# Builds tiller as one native file with the kernels in it, and tries it: all that the Dockerfile does, so that CI does it without Docker.
#
#   tools/docker/build.sh FOLDER     FOLDER gets the program and, beside it, the demo model (and cubins, where there is nvcc)
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: tools/docker/build.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

tools/setup.sh
cmake -B build -DTILLER_HOST_CUDA=OFF
cmake --build build -j2
dotnet publish tools/Tiller -c Release -r linux-x64 -o "$out" \
    -p:PublishAot=true -p:CopyOutputSymbolsToPublishDirectory=false -p:PublishDocumentationFiles=false
rm -f "$out"/Tiller.*.pdb
cp LICENSE "$out"

"$out/tiller" demo --task tone
"$out/tiller" devices
"$out/tiller" generate --model "$out/models/demo" --max-tokens 2 --prompts tests/Features/prompts.parquet --out "$(mktemp -u)"

# With vectors of 512 bits, where the processor has them, and without: the same texts, of lone rows, of rows in pairs and of prompts in panels.
texts=$(mktemp -d)
trap 'rm -rf "$texts"' EXIT
cat models/demo/contrast/*.prompts.txt > "$texts/prompts"
for on in 0 1; do
    DOTNET_EnableAVX512=$on "$out/tiller" generate --model models/demo --prompts "$texts/prompts" --out "$texts/$on.jsonl" --max-tokens 24
done
cmp "$texts/0.jsonl" "$texts/1.jsonl"
