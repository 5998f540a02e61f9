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
say() { printf 'e2e-image: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

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
busybox=$(command -v busybox) || die "no busybox: install busybox-static"
# ldd fails on a static program.
if ldd "$busybox" >/dev/null 2>&1; then
	die "$busybox isn't static: install busybox-static"
fi
share=$("$bin/pg_config" --sharedir)
pkglib=$("$bin/pg_config" --pkglibdir)

work=$(mktemp -d "${TMPDIR:-/tmp}/freehold-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root
mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/docker-entrypoint-initdb.d"
for dir in bin sbin lib lib64; do
	ln -s "usr/$dir" "$root/$dir"
done

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

cp "$busybox" "$root/usr/bin/busybox"
for applet in $("$busybox" --list); do
	[ -e "$root/usr/bin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
cp "$here/entrypoint.sh" "$root/usr/bin/docker-entrypoint.sh"
chmod 755 "$root/usr/bin/docker-entrypoint.sh"

printf 'root:x:0:0::/:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\npostgres:x:999:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"

# Two lists of owners in one archive, so that building needs no root.
mkdir -p "$work/tmp/tmp" "$work/own/var/lib/postgresql/data" "$work/own/var/run/postgresql"
chmod 1777 "$work/tmp/tmp"
chmod 700 "$work/own/var/lib/postgresql/data"
tar -C "$root" --owner=0 --group=0 --numeric-owner -cf "$work/root.tar" .
tar -C "$work/tmp" --owner=0 --group=0 --numeric-owner -rf "$work/root.tar" tmp
tar -C "$work/own" --owner=999 --group=999 --numeric-owner -rf "$work/root.tar" var/lib/postgresql var/run/postgresql
rm -rf "$root"

cat >"$work/Dockerfile" <<EOF
FROM scratch
ADD root.tar /
ENV PATH=$bin:/usr/sbin:/usr/bin PGDATA=/var/lib/postgresql/data PG_MAJOR=$major LANG=C.UTF-8
USER postgres
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
EOF
# The classic builder: it is in every Docker, while BuildKit may need a plugin.
DOCKER_BUILDKIT=0 docker build --tag "$tag" "$work" >"$work/log" 2>&1 || {
	cat "$work/log" >&2
	die "docker build failed"
}
say "built $tag, $(docker image inspect --format '{{.Size}}' "$tag") bytes"
echo "$tag"
