#!/usr/bin/env bash
# Runs tiller and other programs, which must be built already, in turn, so that other load on the machine affects all alike. Prints the medians.
#
#   TILLER="dotnet path/to/tiller.dll" compare.sh RUN MODEL TOKENIZER LAPACK [rounds]
#
#   RUN        llama2.c's program; if it was built with OpenMP, it also runs on all threads
#   MODEL      the demo checkpoint in llama2.c's format (float32)
#   TOKENIZER  any tokenizer of 1024 ids in llama2.c's format
#   LAPACK     called as: LAPACK D repeats; prints the seconds of each dense Riccati step, one per line
#
# Decoding: 256 tokens from an empty context, against tiller's context of 64 to 192. A row's ratio is tiller's speed over the other's.
set -euo pipefail

if [ $# -lt 4 ]; then
    sed -n '2,11p' "$0"
    exit 2
fi

run=$1 model=$2 tokenizer=$3 lapack=$4 rounds=${5:-5}
tiller=${TILLER:-tiller}
cores=$(nproc)
times=$(mktemp -d)
trap 'rm -r "$times"' EXIT

# Adds one sample to a series.
add() { echo "$2" >> "$times/$1"; }

median() { sort -g "$times/$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

# Prints the median, in milliseconds, of the first row of a bench.
bench() { $tiller bench "$@" --seconds 1 --json | awk -F'[:,]' '/"median"/ { print $2; exit }'; }

llama2c() { OMP_NUM_THREADS=$1 "$run" "$model" -z "$tokenizer" -t 0 -n 256 2>&1 > /dev/null | awk '/achieved/ { print $3 }'; }

for _ in $(seq "$rounds"); do
    for threads in $(printf '%s\n' 1 "$cores" | sort -nu); do
        add "tiller.$threads" "$(bench decode --shape demo --threads "$threads" | awk '{ print 1000 / $1 }')"
        for _ in 1 2 3; do
            add "llama2c.$threads" "$(llama2c "$threads")"
        done
    done
    for d in 128 1024; do
        add "riccati.$d" "$(bench riccati --shape "1,$d,256,2,2,32,64")"
        OPENBLAS_NUM_THREADS=$cores "$lapack" "$d" $((d > 512 ? 5 : 200)) | awk '{ print 1000 * $1 }' | tail -n +2 >> "$times/lapack.$d"
    done
done

echo "| figure | tiller | other | ratio |"
echo "|---|---|---|---|"
for threads in $(printf '%s\n' 1 "$cores" | sort -nu); do
    echo "$(median "tiller.$threads") $(median "llama2c.$threads")" | awk -v t="$threads" \
        '{ printf "| decode, demo, %d thread(s), tok/s: tiller bf16, llama2.c float32 | %.0f | %.0f | %.2f |\n", t, $1, $2, $1 / $2 }'
done
for d in 128 1024; do
    echo "$(median "riccati.$d") $(median "lapack.$d")" | awk -v d="$d" \
        '{ printf "| dense Riccati step, D %d, ms: tiller with its residual check, LAPACK without | %.3f | %.3f | %.2f |\n", d, $1, $2, $2 / $1 }'
done
