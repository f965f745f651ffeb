#!/usr/bin/env bash
# Installs what the build needs beyond .NET, cmake and g++, where it is missing: OpenBLAS (the host CUDA of the tests) and clang 19
# (kernels to PTX). Debian; needs root only if something is missing.
set -euo pipefail

missing=()
ls /usr/lib/*/libopenblas.so >/dev/null 2>&1 || missing+=(libopenblas-dev)
command -v clang-19 >/dev/null || missing+=(clang-19)
command -v cmake >/dev/null || missing+=(cmake)
command -v g++ >/dev/null || missing+=(g++)
if [ ${#missing[@]} -gt 0 ]; then
    apt-get update
    DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
fi
