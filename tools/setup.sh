#!/usr/bin/env bash
# Installs what the tests of the CUDA bindings need beyond .NET, where it is missing: cmake, g++ and OpenBLAS, for the host CUDA they run on.
# Debian; needs root only if something is missing.
set -euo pipefail

missing=()
ls /usr/lib/*/libopenblas.so >/dev/null 2>&1 || missing+=(libopenblas-dev)
command -v cmake >/dev/null || missing+=(cmake)
command -v g++ >/dev/null || missing+=(g++)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
fi
