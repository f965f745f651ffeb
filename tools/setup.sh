#!/usr/bin/env bash
# Installs what the CUDA back end needs beyond .NET, where it is missing: cmake, g++ and OpenBLAS for the host CUDA that its tests run on, and clang,
# which makes the kernels' PTX (src/Kernels/CMakeLists.txt takes any from 16 on). A build without clang works and has no PTX in it. Chromium is for
# the tests of the service's page (tests/Browser), which are ignored without it.
# Debian; needs root only if something is missing.
set -euo pipefail

missing=()
ls /usr/lib/*/libopenblas.so >/dev/null 2>&1 || missing+=(libopenblas-dev)
command -v cmake >/dev/null || missing+=(cmake)
command -v g++ >/dev/null || missing+=(g++)
compgen -c | grep -qxE 'clang-(1[6-9]|[2-9][0-9])' || missing+=(clang-19)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
fi

if ! command -v chromium chromium-browser google-chrome > /dev/null; then
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } ||
        printf '\n!! Chromium cannot be had here: the service'"'"'s page is NOT tested in a browser.\n'
fi
