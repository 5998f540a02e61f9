# What the scripts beside this one share: they source it.

say() { printf 'e2e-image: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# begin makes $work, which is removed at the end, and in it $root, to be filled with a
# server's files at their places.
begin() {
	busybox=$(command -v busybox) || die "no busybox: install busybox-static"
	# ldd fails on a static program.
	if ldd "$busybox" >/dev/null 2>&1; then
		die "$busybox isn't static: install busybox-static"
	fi
	work=$(mktemp -d "${TMPDIR:-/tmp}/freehold-image.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 1' HUP INT TERM
	root=$work/root
	mkdir -p "$root/usr/bin" "$root/usr/sbin" "$root/usr/lib" "$root/usr/lib64" "$root/etc" "$root/docker-entrypoint-initdb.d"
	for dir in bin sbin lib lib64; do
		ln -s "usr/$dir" "$root/$dir"
	done
}

# pack BIN TAG: an image of $root, whose Postgres programs are in the folder BIN of it.
# $root is gone then.
pack() {
	bin=$1 tag=$2
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

	cat >"$work/Dockerfile" <<END
FROM scratch
ADD root.tar /
ENV PATH=$bin:/usr/sbin:/usr/bin PGDATA=/var/lib/postgresql/data PG_MAJOR=${tag#*:} LANG=C.UTF-8
USER postgres
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["postgres"]
END
	# The classic builder: it is in every Docker, while BuildKit may need a plugin.
	DOCKER_BUILDKIT=0 docker build --tag "$tag" "$work" >"$work/log" 2>&1 || {
		cat "$work/log" >&2
		die "docker build failed"
	}
	say "built $tag, $(docker image inspect --format '{{.Size}}' "$tag") bytes"
}
