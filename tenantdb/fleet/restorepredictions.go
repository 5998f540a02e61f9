package fleet

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// carryAtOnce is how many predictions are asked for at a time.
const carryAtOnce = 2000

const (
	makeNow = `
create temporary table restore_now (
    id uuid primary key, erased boolean not null
) on commit drop`
	makeWanted = `create temporary table restore_wanted (id uuid primary key) on commit drop`

	// What was at work when the backup was made has ended since, or nobody knows; what
	// was erased since stays so. Of all else the backup's row counts.
	findWanted = `
insert into restore_wanted (id)
select n.id from restore_now n left join freehold.predictions b on b.id = n.id
 where b.id is null or b.state = 'in_progress' or n.erased and b.erased_at is null`
	countErased = `
select count(*) from restore_wanted w join restore_now n on n.id = w.id join freehold.predictions b on b.id = w.id
 where n.erased and b.erased_at is null`
	deleteWanted = `
delete from freehold.predictions b using restore_wanted w where b.id = w.id`
	selectWanted = `
select w.id from restore_wanted w where w.id > $1 order by w.id limit $2`
)

// predictions takes along those that the backup doesn't have, and what became since
// of those that it has.
func (c *carrying) predictions(ctx context.Context) error {
	if c.from != nil {
		if err := c.newPredictions(ctx); err != nil {
			return err
		}
	}
	if err := c.eraseAgain(ctx); err != nil {
		return err
	}
	_, err := c.to.Exec(ctx, endLeftOver)
	return err
}

func (c *carrying) newPredictions(ctx context.Context) error {
	for _, sql := range []string{makeNow, makeWanted} {
		if _, err := c.to.Exec(ctx, sql); err != nil {
			return err
		}
	}
	_, err := copyRows(ctx, c.from, "select p.id, p.erased_at is not null from freehold.predictions p", c.to.Conn(), "restore_now (id, erased)")
	if err != nil {
		return err
	}
	for _, sql := range []string{"analyze restore_now", findWanted} {
		if _, err := c.to.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if err := c.to.QueryRow(ctx, countErased).Scan(&c.done.Erased); err != nil {
		return err
	}
	if _, err := c.to.Exec(ctx, deleteWanted); err != nil {
		return err
	}
	after := uuid.Nil
	for {
		rows, _ := c.to.Query(ctx, selectWanted, after, carryAtOnce) // its error is in rows
		ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
		if err != nil || len(ids) == 0 {
			return err
		}
		n, err := c.copyTable(ctx, "predictions", " where id in ("+literals(ids)+")")
		if err != nil {
			return err
		}
		c.done.Predictions += n
		after = ids[len(ids)-1]
	}
}

// literals are ids as COPY takes them, which has no parameters. They need no quoting.
func literals(ids []uuid.UUID) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString("'" + id.String() + "'")
	}
	return b.String()
}

const (
	// The audit knows what was erased also where the row is missing now.
	eraseTold = `
update freehold.predictions p
   set input = null, output = null, salt = null, end_user = '', erased_at = now()
 where p.erased_at is null and p.state <> 'in_progress'
   and p.id in (select substr(a.subject, 6)::uuid from freehold.audit_log a
                 where a.action = 'prediction.erase'
                   and a.subject ~ '^pred_[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$')`

	// What has neither ended nor is at work would never end. The ledger knows how it did.
	endLeftOver = `
update freehold.predictions p
   set state = coalesce((select l.state from freehold.usage_ledger l where l.id = p.id), 'interrupted'),
       settled_at = coalesce((select l.settled_at from freehold.usage_ledger l where l.id = p.id), now())
 where p.state = 'in_progress' and not exists (select from freehold.reservations r where r.id = p.id)`
)

func (c *carrying) eraseAgain(ctx context.Context) error {
	tag, err := c.to.Exec(ctx, eraseTold)
	c.done.Erased += tag.RowsAffected()
	return err
}

const (
	makeWeeksFrom = `select freehold.make_prediction_weeks($1, $2::integer)`

	deleteAged = `delete from freehold.predictions p where p.id < freehold.uuid7_floor($1)`

	eraseKept = `
update freehold.predictions p
   set input = null, output = null, salt = null, end_user = '', erased_at = now()
 where p.input is not null or p.output is not null`
)

// age makes a restored database as old as it is: predictions that the tenant's
// retention would have taken by now aren't brought back, and the weeks since the
// backup have their partitions. conn is its owner's.
func age(ctx context.Context, conn *pgx.Conn, madeAt time.Time, days int) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var now time.Time
		if err := tx.QueryRow(ctx, `select now()`).Scan(&now); err != nil {
			return err
		}
		since := madeAt
		if days <= 365*100 {
			before := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -max(days, 1))
			if err := dropAged(ctx, tx, before); err != nil {
				return err
			}
			if since.Before(before) {
				since = before
			}
		}
		if days == 0 {
			if _, err := tx.Exec(ctx, eraseKept); err != nil {
				return err
			}
		}
		weeks := max(0, int(monday(now).Sub(monday(since))/(7*24*time.Hour)))
		_, err := tx.Exec(ctx, makeWeeksFrom, since, weeks+weeksAhead)
		return err
	})
}

// monday is the beginning of a moment's week, as partitions have them.
func monday(at time.Time) time.Time {
	day := at.UTC().Truncate(24 * time.Hour)
	return day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
}

// dropAged drops weeks that are over, and the days at the edge.
func dropAged(ctx context.Context, tx pgx.Tx, before time.Time) error {
	rows, _ := tx.Query(ctx, selectWeeks) // its error is in rows
	weeks, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range weeks {
		monday, err := time.Parse(weekLayout, strings.TrimPrefix(name, weekPrefix))
		if err != nil || monday.AddDate(0, 0, 7).After(before) {
			continue
		}
		if _, err := tx.Exec(ctx, "drop table "+freeholdTable(name)); err != nil {
			return err
		}
	}
	_, err = tx.Exec(ctx, deleteAged, before)
	return err
}
