#!/bin/sh
# Installs the programs that the farm and the tests need and that pip doesn't have:
#
#     sh deploy/system-packages.sh chromium
#
# A program has the name of its Debian package. What is there already is left alone. Where a program can't be installed, one
# line says so: with CI=true that is an error, otherwise the tests that need it are skipped.
set -u

missing=
for program in "$@"; do
    # Servers lie in /usr/sbin, which not everybody has on the path.
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || missing="$missing $program"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086  # one word each
    if { apt-get update && apt-get install --yes --no-install-recommends $missing; } </dev/null >/dev/null; then
        exit 0
    fi
fi

echo "Please install$missing: nothing that needs them runs without, tests are skipped." >&2
[ "${CI:-}" != true ]
