#!/usr/bin/env bash
# Publishes libtiller.so ahead of time and tries it from outside: the samples in C and in Python, and calls that must be refused.
#
#   tools/native/build.sh FOLDER     FOLDER gets libtiller.so and tiller.h
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: tools/native/build.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1

dotnet publish src/Native -c Release -r linux-x64 -o "$out" \
    -p:PublishAot=true -p:CopyOutputSymbolsToPublishDirectory=false -p:PublishDocumentationFiles=false

# Every function of the header is there, and nothing else of ours.
declared=$(grep -oE '\btiller_[a-z_]+\(' "$out/tiller.h" | tr -d '(' | sort -u)
exported=$(nm -D --defined-only "$out/libtiller.so" | awk '{ sub(/@.*/, "", $3); print $3 }' | grep '^tiller_' | sort -u)
[ "$declared" = "$exported" ] || { diff <(echo "$declared") <(echo "$exported"); echo "tiller.h is not what libtiller.so has" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dotnet run -c Release --project tools/Tiller -- fit --model models/demo --cost feature --out "$work/sea.tiller" \
    --positive models/demo/contrast/topic.positive.txt --negative models/demo/contrast/topic.negative.txt

compile() { gcc -std=c11 -Wall -Wextra -Werror -O1 -g -I "$out" "$1" -o "$2" -L "$out" -ltiller -lm "-Wl,-rpath,$out"; }
compile samples/native/steer.c "$work/steer"
compile tools/native/refusals.c "$work/refusals"
g++ -std=c++17 -Wall -Werror -fsyntax-only -x c++ "$out/tiller.h"

"$work/refusals" models/demo "$work/sea.tiller"
"$work/steer" models/demo "$work/sea.tiller" 1.75 "Once upon a time" > "$work/c.txt"
python3 samples/native/steer.py "$out/libtiller.so" models/demo "$work/sea.tiller" 1.75 "Once upon a time" > "$work/python.txt"
cat "$work/c.txt"

# Both stream the same text.
[ "$(head -n 1 "$work/c.txt")" = "$(head -n 1 "$work/python.txt")" ] || { cat "$work/python.txt"; echo "C and Python differ" >&2; exit 1; }
