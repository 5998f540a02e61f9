package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// subscriptionOptions are spelled out where majors have other defaults. Streaming is
// off: a transaction is applied when it has committed, so none is half there.
//
// The origin is left at any: what a replication of somebody else's writes into the
// source belongs to it too, and nothing goes back from here that could circle.
const subscriptionOptions = `enabled = true, create_slot = false, copy_data = true, streaming = off, two_phase = false,
 binary = false, disable_on_error = false, synchronous_commit = off`

// Subscribe has the target follow the source: all published tables are copied, then
// changes follow. The slot has to be there. A subscription of that name gets the
// connection string, is enabled and takes in tables that were added to the publication.
// conn is the admin's, in the target; conninfo is libpq's, with the login's password.
//
// Errors: ErrUnreachable, ErrUnfit without the right to it, ErrBusy. None quotes conninfo.
func Subscribe(ctx context.Context, conn *pgx.Conn, name, conninfo string) error {
	there, err := subscribed(ctx, conn, name)
	if err != nil {
		return wrap("subscribe", err)
	}
	if there {
		err = alterConnection(ctx, conn, name, conninfo)
		for _, statement := range []string{"enable", "refresh publication"} {
			if err == nil {
				_, err = conn.Exec(ctx, "alter subscription "+pgx.Identifier{name}.Sanitize()+" "+statement)
			}
		}
	} else {
		err = hushed(ctx, conn, func(tx pgx.Tx) error {
			return secretly(ctx, tx, createSubscription, name, conninfo, subscriptionOptions+", slot_name = "+name)
		})
	}
	return wrap("subscribe", told(ctx, err, conninfo))
}

const createSubscription = `
    execute format('create subscription %I connection %L publication %I with (' || current_setting('freehold.options') || ')',
                   current_setting('freehold.name'), current_setting('freehold.secret'), current_setting('freehold.name'));`

const changeConnection = `
    execute format('alter subscription %I connection %L', current_setting('freehold.name'), current_setting('freehold.secret'));`

func alterConnection(ctx context.Context, conn *pgx.Conn, name, conninfo string) error {
	return hushed(ctx, conn, func(tx pgx.Tx) error { return secretly(ctx, tx, changeConnection, name, conninfo, "") })
}

// probeOptions make a subscription that logs in to the source and does nothing more.
const probeOptions = `connect = true, enabled = false, create_slot = false, copy_data = false, slot_name = none`

var errProbed = errors.New("probed")

// Probe reports whether the target can log in to the source and read its publications
// there: ErrUnreachable or ErrUnfit if not. It makes a subscription in a transaction
// that it takes back, so it leaves nothing, killed or not. Bounded by ctx and by the
// connect_timeout of conninfo. conn is the admin's, in any database of the target's server.
func Probe(ctx context.Context, conn *pgx.Conn, conninfo string) error {
	err := hushed(ctx, conn, func(tx pgx.Tx) error {
		if err := secretly(ctx, tx, createSubscription, "freehold_probe", conninfo, probeOptions); err != nil {
			return err
		}
		return errProbed
	})
	if errors.Is(err, errProbed) {
		return nil
	}
	return wrap("probe", told(ctx, err, conninfo))
}

// hush keeps statements out of the server's log and statistics, as far as the role may
// decide that, until the transaction ends.
const hush = `
do $do$
declare
    s text[];
begin
    foreach s slice 1 in array array[
        ['log_statement', 'none'], ['log_duration', 'off'], ['log_min_error_statement', 'panic'],
        ['log_min_duration_statement', '-1'], ['log_min_duration_sample', '-1'], ['log_transaction_sample_rate', '0'],
        ['log_parameter_max_length', '0'], ['log_parameter_max_length_on_error', '0'],
        ['debug_print_parse', 'off'], ['debug_print_rewritten', 'off'], ['debug_print_plan', 'off'],
        ['pg_stat_statements.track', 'none'], ['pgaudit.log', 'none']]
    loop
        begin
            perform set_config(s[1], s[2], true);
        exception when others then
            null;
        end;
    end loop;
end
$do$`

// hushed does something in a transaction whose statements the server keeps to itself.
func hushed(ctx context.Context, conn *pgx.Conn, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, hush); err != nil {
			return err
		}
		return do(tx)
	})
}

const handOver = `
select set_config('freehold.name', $1, true), set_config('freehold.secret', $2, true), set_config('freehold.options', $3, true)`

// secretly runs a part of PL/pgSQL that finds a secret in a setting. The statement that
// the server knows, shows to others and logs with an error has no secret in its text,
// and the error no context that quotes the one inside.
func secretly(ctx context.Context, tx pgx.Tx, body, name, secret, options string) error {
	// As a parameter on the wire, whatever the connection's mode is.
	if _, err := tx.Exec(ctx, handOver, pgx.QueryExecModeExec, name, secret, options); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, "do $do$\nbegin"+body+`
exception when others then
    raise exception using errcode = sqlstate,
        message = case sqlstate when '`+stateSyntax+`' then 'the secret can''t be read' else sqlerrm end; -- which would quote it
end
$do$`)
	return err
}

// told is an error in words that quote neither conninfo nor statements.
func told(ctx context.Context, err error, conninfo string) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case !ok && ctx.Err() != nil:
		return ctx.Err()
	case !ok:
		return err
	case strings.HasPrefix(pg.Code, classConnection):
		return fmt.Errorf("%w: %s", ErrUnreachable, innermost(pg.Message, conninfo))
	case pg.Code == stateSyntax:
		return fmt.Errorf("%w: the connection string doesn't parse", ErrUnreachable)
	case pg.Code == stateDenied:
		return fmt.Errorf("%w: %s", ErrUnfit, innermost(pg.Message, conninfo))
	}
	return fmt.Errorf("the server refused (SQLSTATE %s)", pg.Code)
}

// innermost is the end of a message that tells where something failed before it tells
// why: the reason alone, without hosts.
func innermost(message, conninfo string) string {
	line, _, _ := strings.Cut(message, "\n")
	for _, before := range []string{" failed: ", "FATAL:  ", "ERROR:  "} {
		if at := strings.LastIndex(line, before); at >= 0 {
			line = line[at+len(before):]
		}
	}
	cfg, err := pgconn.ParseConfig(conninfo)
	if err != nil || cfg.Password != "" && strings.Contains(line, cfg.Password) {
		return "the reason isn't shown"
	}
	return line
}

const subscriptionExists = `
select exists (select from pg_subscription s join pg_database d on d.oid = s.subdbid
                where s.subname = $1 and d.datname = current_database())`

func subscribed(ctx context.Context, conn *pgx.Conn, name string) (there bool, err error) {
	err = conn.QueryRow(ctx, subscriptionExists, name).Scan(&there)
	return there, err
}
