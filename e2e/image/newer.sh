#!/bin/sh
# newer.sh IMAGE: makes an image of a newer major of Postgres than IMAGE's available to
# Docker, and its pg_dump, pg_restore and psql to this machine. It prints the image's
# tag and the folder of those programs, which is all that is on standard output, and
# nothing when there is no way to a newer one; it says on standard error why.
#
# The image is pulled; when it can't be (or FREEHOLD_NO_PULL=1 says not to try), it is
# built from the packages of a later Debian, by apt, beside what is installed here.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
. "$here/pack.sh"
major=${1#*:}
major=${major%%[!0-9]*}
[ -n "$major" ] || die "usage: newer.sh IMAGE, such as postgres:15"

# The newest that Freehold is for, and the Debians that have one.
newest=18
suites='trixie forky'
# What a server's programs don't need of the packages that they depend on.
needless='adduser|base-passwd|debconf|gcc-[0-9].*|init-system-helpers|libc-l10n|libio-pty-perl|libipc-run-perl|libjson-perl|libllvm.*|libperl.*|libproc2.*|libsemanage.*|libsepol.*|libtext-.*|libz3.*|locales|login.*|openssl|passwd|perl.*|postgresql-common.*|postgresql-client-common|procps|ssl-cert|sysvinit.*|ucf'

# tools TAG: the image's client programs, to be run on this machine by the loader that
# they are made for. They are made once.
tools() {
	dir=$(cd "$here/../.." && pwd)/bin/e2e/$(echo "$1" | tr : -)
	if ! "$dir/pg_dump" --version >/dev/null 2>&1; then
		fresh=$dir.$$
		rm -rf "$fresh" "$dir"
		mkdir -p "$fresh/root"
		container=$(docker create "$1")
		docker export "$container" | tar -x -C "$fresh/root" --wildcards --exclude='*LLVM*' \
			'usr/lib/postgresql/*/bin/pg_dump' 'usr/lib/postgresql/*/bin/pg_restore' 'usr/lib/postgresql/*/bin/psql' \
			'usr/lib/*-linux-gnu*/lib*.so*' 'usr/lib/*-linux-gnu*/ld-linux*' || say "not all of $1's programs could be taken out of it"
		docker rm "$container" >/dev/null
		loader=$(cd "$fresh/root" && find . -name 'ld-linux*.so*' | head -n 1)
		for program in pg_dump pg_restore psql; do
			path=$(cd "$fresh/root" && find . -name "$program" -path '*/bin/*' | head -n 1)
			printf '#!/bin/sh\nexec "%s" --library-path "%s" "%s" "$@"\n' \
				"$dir/root/$loader" "$dir/root/$(dirname "$loader")" "$dir/root/$path" >"$fresh/$program"
			chmod 755 "$fresh/$program"
		done
		mv "$fresh" "$dir"
	fi
	"$dir/pg_dump" --version >/dev/null || {
		say "the programs of $1 don't run on this machine"
		exit
	}
	echo "$1 $dir"
}

# Newest first, and what is there before what has to be fetched.
try=$newest
while [ "$try" -gt "$major" ]; do
	if docker image inspect "postgres:$try" >/dev/null 2>&1; then
		tools "postgres:$try"
		exit
	fi
	try=$((try - 1))
done
if [ "$major" -ge "$newest" ]; then
	say "$1 is the newest"
	exit
fi
if [ "${FREEHOLD_NO_PULL:-}" != 1 ] && timeout 300 docker pull --quiet "postgres:$newest" >&2; then
	tools "postgres:$newest"
	exit
fi

mirror=
if command -v apt-get >/dev/null; then
	mirror=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "Debian" && $2 == "main" {print $3; exit}')
fi
keys=/usr/share/keyrings/debian-archive-keyring.gpg
if [ -z "$mirror" ] || [ ! -e "$keys" ] || ! command -v busybox >/dev/null; then
	say "no newer Postgres than $1: neither a registry, nor Debian's packages and a static busybox are at hand"
	exit
fi

begin
# An apt of its own: it installs nothing, and knows nothing of what is installed.
mkdir -p "$work/apt/lists/partial" "$work/apt/archives/partial" "$work/apt/none"
: >"$work/apt/status"
cat >"$work/apt.conf" <<END
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "$work/apt/none";
Dir::Etc::preferencesparts "$work/apt/none";
Dir::State::lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt";
APT::Install-Recommends "false";
APT::Sandbox::User "$(id -un)";
Acquire::Languages "none";
END
export APT_CONFIG="$work/apt.conf"
for suite in $suites; do
	echo "deb [signed-by=$keys] $mirror $suite main" >"$work/apt/sources.list"
	apt-get -qq update >&2 || continue
	found=$(apt-cache pkgnames postgresql- | sed -n 's/^postgresql-\([0-9]*\)$/\1/p' | sort -n | tail -n 1)
	if [ "${found:-0}" -gt "$major" ]; then
		say "building postgres:$found from the packages of $suite"
		apt-get -qq -y --download-only install "postgresql-$found" >&2 || continue
		for package in "$work"/apt/archives/*.deb; do
			basename "$package" | grep -qE "^($needless)_" || dpkg-deb -x "$package" "$root" || die "can't unpack $package"
		done
		bin=/usr/lib/postgresql/$found/bin
		rm -rf "$root$bin/../lib/bitcode" "$root$bin/../lib/pgxs" "$root/usr/share/doc" "$root/usr/share/man" "$root/usr/share/locale"
		find "$root$bin/../lib" -name 'llvmjit*' -exec rm -rf {} +
		pack "$bin" "postgres:$found" >&2
		tools "postgres:$found"
		exit
	fi
done
say "no newer Postgres than $1 could be had"
