#!/bin/sh
# Makes the Postgres image of the end-to-end tests available to Docker and
# prints its tag, which is the only thing on standard output.
#
# The tag is the official image's, of the newest Postgres on this machine. When
# Docker lacks it, it is pulled; when it can't be pulled (or FREEHOLD_NO_PULL=1
# says not to try), an image is built under the same tag from this machine's own
# Postgres files, which needs them in a distribution's layout and a static
# busybox.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/pack.sh"

# Debian's psql and pg_config are wrappers, so the folder of the real server is
# what counts.
find_bin() {
	if [ -n "${FREEHOLD_PG_BIN:-}" ]; then
		echo "$FREEHOLD_PG_BIN"
		return
	fi
	for bin in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin; do
		[ -x "$bin/postgres" ] && echo "$bin"
	done | sort -V | tail -n 1
}

# copy PATH...: into the root, at the same place, symbolic links followed.
copy() { cp -rL --parents "$@" "$root"; }

command -v docker >/dev/null || die "no docker command: install Docker"
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
	die "no Docker answers${DOCKER_HOST:+ at $DOCKER_HOST}: start it, or set DOCKER_HOST"

bin=$(find_bin)
[ -n "$bin" ] && [ -x "$bin/postgres" ] || die "no Postgres found: install it, or set FREEHOLD_PG_BIN"
major=$("$bin/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
tag=postgres:$major

if docker image inspect "$tag" >/dev/null 2>&1; then
	echo "$tag"
	exit
fi
if [ "${FREEHOLD_NO_PULL:-}" != 1 ] && timeout 300 docker pull --quiet "$tag" >&2; then
	echo "$tag"
	exit
fi

say "building $tag from $bin"
share=$("$bin/pg_config" --sharedir)
pkglib=$("$bin/pg_config" --pkglibdir)

begin

# The just-in-time compiler needs LLVM, 100 MB that no test uses.
copy "$bin" "$share" "$pkglib"
rm -rf "$root$pkglib/bitcode" "$root$pkglib/pgxs" "$root$pkglib"/llvmjit*

# Every library that a program or module names, with the loader itself.
find "$root$bin" "$root$pkglib" -type f -exec ldd {} + 2>/dev/null |
	awk '$2 == "=>" && $3 ~ /^\// {print $3} $1 ~ /^\/.*ld-linux/ {print $1}' |
	sort -u >"$work/libs"
while read -r lib; do
	copy "$lib"
done <"$work/libs"

# initdb refuses a locale it can't load, and C.UTF-8 is the one the tests ask for.
for path in /usr/lib/locale/C.utf8 /usr/share/zoneinfo; do
	[ ! -e "$path" ] || copy "$path"
done
rm -rf "$root/usr/share/zoneinfo/posix" "$root/usr/share/zoneinfo/right"

pack "$bin" "$tag"
echo "$tag"
