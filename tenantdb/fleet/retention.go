package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

const (
	// retentionRows is how many rows a statement takes at most, and
	// retentionStatements how many statements a transaction has: each tells the audit.
	retentionRows       = 1000
	retentionStatements = 20
	// dailyTime is after how long the rest is left to the next visit.
	dailyTime = 15 * time.Second
	// dropTries is how often a week is tried to be dropped in one visit.
	dropTries = 3
)

// daily is what is looked after once a day: coming weeks' partitions, Idempotency-Keys
// that have expired, predictions that are kept no longer. more: there was more than
// time.
func (v *visit) daily(ctx context.Context) (more bool, err error) {
	deadline := time.Now().Add(dailyTime)
	// Partitions must stay as they are while they are copied.
	if busy, err := v.cat.BusyWith(ctx, v.tenant.ID, catalog.KindMove, catalog.KindRestore); err != nil || busy {
		return busy, err
	}
	if _, err := v.conn.Exec(ctx, makeWeeks, weeksAhead); err != nil {
		return false, fmt.Errorf("make weeks: %w", translate(ctx, err))
	}
	if !v.billed {
		return false, nil
	}
	if more, err = v.dropKeys(ctx, deadline); err != nil || more {
		return more, err
	}
	cfg, err := v.cat.TenantConfig(ctx, v.tenant.ID)
	if err != nil {
		return false, err
	}
	return v.retain(ctx, cfg.PredictionLogRetentionDays, deadline)
}

const deleteExpired = `
delete from freehold.idempotency_keys i
 where (i.api_key, i.key) in (select x.api_key, x.key from freehold.idempotency_keys x
                               where x.expires_at < now() order by x.expires_at limit $1 for update skip locked)`

func (v *visit) dropKeys(ctx context.Context, deadline time.Time) (more bool, err error) {
	for {
		tag, err := v.conn.Exec(ctx, deleteExpired, retentionRows)
		switch {
		case err != nil:
			return false, fmt.Errorf("delete Idempotency-Keys: %w", translate(ctx, err))
		case tag.RowsAffected() < retentionRows:
			return false, nil
		case time.Now().After(deadline):
			return true, nil
		}
	}
}

// retain deletes predictions from before the tenant's retention, in whole days (UTC):
// weeks at once, and the days at the edge row by row. Those at work stay, and so do
// the ledger and the audit. When nothing is kept, rows without payload live for a
// day, and payloads from before that was so go now.
func (v *visit) retain(ctx context.Context, days int, deadline time.Time) (more bool, err error) {
	// Nobody has been here for longer than that, and years have four digits.
	if days > 365*100 {
		return false, nil
	}
	before := v.began.UTC().Truncate(24*time.Hour).AddDate(0, 0, -max(days, 1))
	if err := v.dropWeeks(ctx, before); err != nil {
		return false, fmt.Errorf("drop weeks: %w", err)
	}
	monday := before.AddDate(0, 0, -(int(before.Weekday())+6)%7)
	for _, part := range []struct {
		sql  string
		args []any
	}{{deleteDays, []any{retentionRows, before, monday}}, {deleteRest, []any{retentionRows, before}}} {
		if more, err = v.inBatches(ctx, deadline, before, "rows", part.sql, part.args...); err != nil || more {
			return more, err
		}
	}
	if days > 0 {
		return false, nil
	}
	return v.inBatches(ctx, deadline, v.began, "payloads", erasePayloads, retentionRows, v.began)
}

const (
	weekPrefix = "predictions_w"
	weekLayout = "20060102" // of its Monday

	selectWeeks = `
select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
 where i.inhparent = 'freehold.predictions'::regclass and c.relname ~ '^predictions_w[0-9]{8}$' order by 1`
)

func (v *visit) dropWeeks(ctx context.Context, before time.Time) error {
	rows, _ := v.conn.Query(ctx, selectWeeks) // its error is in rows
	weeks, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return translate(ctx, err)
	}
	for _, name := range weeks {
		monday, err := time.Parse(weekLayout, strings.TrimPrefix(name, weekPrefix))
		if err != nil || monday.AddDate(0, 0, 7).After(before) {
			continue
		}
		for try := 1; ; try++ {
			err = v.dropWeek(ctx, name, monday, before)
			if !locked(err) || try == dropTries || pause(ctx, jitter(try)) != nil {
				break
			}
		}
		if locked(err) {
			// Who reads it now reads on, and requests don't wait behind us: tomorrow.
			v.log.InfoContext(ctx, "week of predictions kept: it is in use", "tenant", v.tenant.ID.String(), "week", name)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	selectAtWork = `
select exists (select from freehold.reservations r where r.id >= freehold.uuid7_floor($1) and r.id < freehold.uuid7_floor($2))`

	// Dropping locks all predictions, and requests wait behind who waits for that.
	weekPatience = `set local lock_timeout = '200ms'`
)

func (v *visit) dropWeek(ctx context.Context, name string, monday, before time.Time) error {
	var atWork bool
	if err := v.conn.QueryRow(ctx, selectAtWork, monday, monday.AddDate(0, 0, 7)).Scan(&atWork); err != nil || atWork {
		return translate(ctx, err)
	}
	table := pgx.Identifier{"freehold", name}.Sanitize()
	var rows int64 // of a week that is over: no more will come
	if err := v.conn.QueryRow(ctx, "select count(*) from "+table).Scan(&rows); err != nil {
		return translate(ctx, err)
	}
	err := pgx.BeginFunc(ctx, v.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, weekPatience); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "drop table "+table); err != nil {
			return err
		}
		if rows == 0 {
			return nil
		}
		return tellRetention(ctx, tx, before, map[string]any{"weeks": 1, "rows": rows})
	})
	return translate(ctx, err)
}

const (
	deleteDays = `
delete from freehold.predictions p
 where p.id >= freehold.uuid7_floor($3) and p.id < freehold.uuid7_floor($2)
   and p.id = any(array(
       select o.id from freehold.predictions o
        where o.id >= freehold.uuid7_floor($3) and o.id < freehold.uuid7_floor($2)
          and not exists (select from freehold.reservations r where r.id = o.id)
        order by o.id limit $1))`

	// What no week was made for in time.
	deleteRest = `
delete from freehold.predictions_rest p
 where p.id = any(array(
       select o.id from freehold.predictions_rest o
        where o.id < freehold.uuid7_floor($2) and not exists (select from freehold.reservations r where r.id = o.id)
        order by o.id limit $1))`

	erasePayloads = `
update freehold.predictions p
   set input = null, output = null, salt = null, end_user = '', erased_at = $2
 where p.id < freehold.uuid7_floor($2)
   and p.id = any(array(
       select o.id from freehold.predictions o
        where o.id < freehold.uuid7_floor($2) and (o.input is not null or o.output is not null)
          and not exists (select from freehold.reservations r where r.id = o.id)
        limit $1))`
)

// inBatches runs a statement that takes up to retentionRows rows until it takes fewer.
func (v *visit) inBatches(ctx context.Context, deadline, before time.Time, what, sql string, args ...any) (more bool, err error) {
	for {
		last := int64(retentionRows)
		err := pgx.BeginFunc(ctx, v.conn, func(tx pgx.Tx) error {
			var gone int64
			for range retentionStatements {
				tag, err := tx.Exec(ctx, sql, args...)
				if err != nil {
					return err
				}
				last = tag.RowsAffected()
				if gone += last; last < retentionRows || time.Now().After(deadline) {
					break
				}
			}
			if gone == 0 {
				return nil
			}
			return tellRetention(ctx, tx, before, map[string]any{"weeks": 0, what: gone})
		})
		switch {
		case err != nil:
			return false, fmt.Errorf("retention: %w", translate(ctx, err))
		case last < retentionRows:
			return false, nil
		case time.Now().After(deadline):
			return true, nil
		}
	}
}

// actionRetention is how a tenant's audit calls what went because of its age.
const actionRetention = "retention"

const insertRetention = `
insert into freehold.audit_log (id, at, actor, action, detail) values ($1, now(), 'system', $2, $3)`

// tellRetention tells the tenant's audit what went, in the transaction that takes it
// away: the chain says why rows are missing.
func tellRetention(ctx context.Context, tx pgx.Tx, before time.Time, detail map[string]any) error {
	detail["before"] = before.UTC().Format(time.RFC3339)
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, insertRetention, uuid.Must(uuid.NewV7()), actionRetention, json.RawMessage(text))
	return err
}
