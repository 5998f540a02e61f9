package replica

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Enable has a subscription that was disabled go on where it was.
func Enable(ctx context.Context, conn *pgx.Conn, name string) error {
	_, err := conn.Exec(ctx, "alter subscription "+pgx.Identifier{name}.Sanitize()+" enable")
	return wrap("enable subscription", err)
}

// Disable has the target follow no longer. When it returns, no worker of the
// subscription is left; one that isn't there is disabled. conn is that of who made it.
func Disable(ctx context.Context, conn *pgx.Conn, name string) error {
	there, err := subscribed(ctx, conn, name)
	if err != nil || !there {
		return wrap("disable subscription", err)
	}
	return wrap("disable subscription", disable(ctx, conn, name))
}

// Before 16 a worker looks for such news once a second; it may be ended at once, since
// what it hasn't applied isn't confirmed. From 16 on it is woken, and who isn't a
// superuser may not end it.
const endWorkers = `
select count(pg_terminate_backend(s.pid))
  from pg_stat_subscription s
 where s.subname = $1 and s.pid is not null
   and (select r.rolsuper from pg_roles r where r.rolname = current_user)`

const countWorkers = `select count(*) from pg_stat_subscription s where s.subname = $1 and s.pid is not null`

func disable(ctx context.Context, conn *pgx.Conn, name string) error {
	if _, err := conn.Exec(ctx, "alter subscription "+pgx.Identifier{name}.Sanitize()+" disable"); err != nil {
		return err
	}
	return await(ctx, func() (bool, error) {
		if _, err := conn.Exec(ctx, endWorkers, name); err != nil {
			return false, err
		}
		var left int
		err := conn.QueryRow(ctx, countWorkers, name).Scan(&left)
		return left == 0, err
	})
}

// nowhere is where no server is: a subscription that is dropped before all tables are
// copied tries to tell its source, and mustn't have to wait for that. The password is
// for 16 and later, where it takes one.
const nowhere = `host=/nonexistent dbname=none user=none password=none connect_timeout=2`

// Unsubscribe ends the subscription and drops it, without its source having to be
// there: slots that are left there are DropSlots's. One that isn't there is dropped.
// conn is that of who made it.
func Unsubscribe(ctx context.Context, conn *pgx.Conn, name string) error {
	there, err := subscribed(ctx, conn, name)
	if err != nil || !there {
		return wrap("unsubscribe", err)
	}
	if err := disable(ctx, conn, name); err != nil {
		return wrap("unsubscribe", err)
	}
	quoted := pgx.Identifier{name}.Sanitize()
	for _, statement := range []string{
		"alter subscription " + quoted + " connection " + literal(nowhere),
		"alter subscription " + quoted + " set (slot_name = none)",
		"drop subscription if exists " + quoted,
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return wrap("unsubscribe", err)
		}
	}
	return nil
}
