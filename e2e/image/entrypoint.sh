#!/bin/sh
# Stands in for the official Postgres image's entry point, as far as the
# end-to-end tests use it: POSTGRES_PASSWORD (required), POSTGRES_USER,
# POSTGRES_DB, POSTGRES_INITDB_ARGS, PGDATA and /docker-entrypoint-initdb.d.
set -eu

case "${1:-}" in
-*) set -- postgres "$@" ;;
esac
if [ "${1:-}" != postgres ]; then
	exec "$@"
fi

user=${POSTGRES_USER:-postgres}
db=${POSTGRES_DB:-$user}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
	if [ -z "${POSTGRES_PASSWORD:-}" ]; then
		echo "POSTGRES_PASSWORD is not set" >&2
		exit 1
	fi
	umask 077
	printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/pw
	# The variable holds several words.
	# shellcheck disable=SC2086
	initdb --pgdata="$PGDATA" --username="$user" --pwfile=/tmp/pw --no-sync --encoding=UTF8 --locale=C.UTF-8 \
		--auth-local=trust --auth-host=scram-sha-256 ${POSTGRES_INITDB_ARGS:-}
	rm /tmp/pw
	echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
	echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"

	# Set-up runs on a server that only the socket reaches, so that nobody
	# outside meets a database that is half made.
	shift
	pg_ctl --pgdata="$PGDATA" --wait --options="$* -c listen_addresses=''" start
	run="psql --no-psqlrc --set=ON_ERROR_STOP=1 --username=$user --no-password"
	if [ "$db" != postgres ]; then
		echo 'create database :"db"' | $run --dbname=postgres --set=db="$db"
	fi
	for file in /docker-entrypoint-initdb.d/*; do
		case "$file" in
		*.sh) . "$file" ;;
		*.sql) $run --dbname="$db" --file="$file" ;;
		*.sql.gz) gunzip -c "$file" | $run --dbname="$db" ;;
		esac
	done
	pg_ctl --pgdata="$PGDATA" --wait --mode=fast stop
	set -- postgres "$@"
fi

unset POSTGRES_PASSWORD
exec "$@"
