#!/usr/bin/env bash
# Unpacks NVIDIA's NVRTC, ptxas and cuobjdump (CUDA 12.4) into artifacts/cuda, so that a machine without a GPU can compile kernels. Nothing is
# installed, and root is not needed. The packages are in the non-free component of Debian trixie, and come from the mirror that apt uses here.
#
#   tools/gpu/compilers.sh            makes bin/{ptxas,cuobjdump} and lib/libnvrtc*; does nothing if they exist
#
# nvcc is not included, because it needs CUDA's headers, which have a gigabyte. NVRTC has the same compiler and needs no headers. The licence is
# NVIDIA's; it is in artifacts/cuda/copyright.
set -euo pipefail

suite=trixie
packages=(nvidia-cuda-toolkit libnvrtc12 libnvrtc-builtins12.4)
members=(./usr/bin/ptxas ./usr/bin/cuobjdump './usr/lib/*/libnvrtc*' './usr/share/doc/*/copyright')
wanted=(bin/ptxas bin/cuobjdump lib/libnvrtc.so.12 lib/libnvrtc-builtins.so.12.4)

root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/artifacts/cuda
die() { echo "compilers.sh: $*" >&2; exit 1; }

complete() { for file in "${wanted[@]}"; do [ -s "$1/$file" ] || return 1; done; }
if complete "$folder"; then exit 0; fi
[ "$(uname -m)" = x86_64 ] || die "for x86-64 only, this is $(uname -m)"
command -v apt-get > /dev/null && command -v dpkg-deb > /dev/null || die "needs apt-get and dpkg-deb"

mkdir -p "$root/artifacts"
work=$(mktemp -d "$root/artifacts/cuda.XXXXXX")
trap 'rm -rf "$work"' EXIT

# The mirror is apt's first that is not for security updates. The keys of the archive come with Debian.
uri=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2> /dev/null | grep -v security | head -n 1) || true
key=/usr/share/keyrings/debian-archive-keyring.gpg
[ -n "$uri" ] || die "apt has no mirror configured"
[ -s "$key" ] || die "$key is missing (package debian-archive-keyring)"

# Lists, cache and packages are in the temporary folder, so that those of the machine do not change.
mkdir -p "$work"/{apt/lists/partial,apt/cache/archives/partial,packages,files,done/bin,done/lib}
echo "deb [arch=amd64 signed-by=$key] $uri $suite non-free" > "$work/apt/sources.list"
options=(-qq -o "Dir::Etc::sourcelist=$work/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::Etc::preferencesparts=-
    -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache" -o Dir::State::status=/dev/null -o APT::Sandbox::User=
    -o Acquire::Retries=2 -o Acquire::http::Timeout=20)
apt-get "${options[@]}" update > "$work/log" 2>&1 || die "$uri has no $suite non-free: $(tail -n 1 "$work/log")"
(cd "$work/packages" && apt-get "${options[@]}" download "${packages[@]}") > "$work/log" 2>&1 ||
    die "the packages cannot be downloaded: $(tail -n 1 "$work/log")"

for package in "$work"/packages/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/files" --wildcards "${members[@]}" \
        2> "$work/log" || grep -q 'Not found in archive' "$work/log" || die "$(basename "$package") cannot be unpacked: $(tail -n 1 "$work/log")"
done
cp "$work"/files/usr/bin/* "$work/done/bin/"
cp -a "$work"/files/usr/lib/x86_64-linux-gnu/libnvrtc* "$work/done/lib/"
cat "$work"/files/usr/share/doc/*/copyright > "$work/done/copyright"
complete "$work/done" || die "the packages lack one of ${wanted[*]}"

rm -rf "$folder"
mv -T "$work/done" "$folder"
echo "$("$folder/bin/ptxas" --version | tail -n 1) in $folder"
