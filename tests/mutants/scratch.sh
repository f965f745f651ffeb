# To be sourced. Makes a scratch copy of the current commit, builds its tests, and changes to its folder; it is removed when the script ends.
# Sets $here to this folder, $scratch to the copy, and $log and $table to two files.
export DOTNET_CLI_TELEMETRY_OPTOUT=1 DOTNET_NOLOGO=1
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(git -C "$here" rev-parse --show-toplevel)
scratch=$(mktemp -d)/checkout
log=$(dirname "$scratch")/log
table=$(dirname "$scratch")/table
finish() {
    git -C "$root" worktree remove --force "$scratch" 2>/dev/null
    rm -rf "$(dirname "$scratch")"
}
trap finish EXIT

git -C "$root" worktree add --quiet --detach "$scratch" HEAD || exit 2
cd "$scratch" || exit 2
echo "building $(git rev-parse --short HEAD)"
dotnet build -c Release tests/Tiller.Tests.csproj >"$log" 2>&1 || { tail "$log"; exit 2; }
