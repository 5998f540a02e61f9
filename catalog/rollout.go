package catalog

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// OpenRollout is returned where a rollout would begin while another one of its
// stream is open. It is an ErrConflict.
type OpenRollout struct{ Rollout }

func (e *OpenRollout) Error() string {
	return fmt.Sprintf("rollout %s of stream %s is %s", e.ID, e.Stream, e.State)
}

// Is reports whether target is ErrConflict.
func (e *OpenRollout) Is(target error) bool { return target == ErrConflict }

const selectRollouts = `
select r.id::text, r.stream, r.target, r.actor, r.options, r.state, r.wave, r.reason, r.token, r.worker,
       r.lease_until, r.heartbeat_at, r.deadline, r.created_at, r.ended_at
  from rollouts r`

func queryRollouts(ctx context.Context, q querier, where string, args ...any) ([]Rollout, error) {
	rows, err := q.Query(ctx, selectRollouts+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Rollout])
}

func queryRollout(ctx context.Context, q querier, where string, args ...any) (Rollout, error) {
	list, err := queryRollouts(ctx, q, where, args...)
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Rollout{}, err
	}
	return list[0], nil
}

// Rollout reads one; ErrNotFound.
func (c *Catalog) Rollout(ctx context.Context, id string) (Rollout, error) {
	if _, err := uuid.Parse(id); err != nil {
		return Rollout{}, fmt.Errorf("read rollout: %w", ErrNotFound)
	}
	r, err := queryRollout(ctx, c.writer, ` where r.id = $1`, id)
	return r, wrap("read rollout", err)
}

// RolloutFilter narrows Rollouts; zero fields don't filter. After is the last id of
// the page before.
type RolloutFilter struct {
	State  string
	Stream Stream
	After  string
	Limit  int
}

const filteredRollouts = `
 where ($1 = '' or r.state = $1) and ($2 = '' or r.stream = $2)
   and ($3 = '' or (r.created_at, r.id) < (select a.created_at, a.id from rollouts a where a.id = nullif($3, '')::uuid))
 order by r.created_at desc, r.id desc limit nullif($4, 0)`

// Rollouts lists, newest first.
func (c *Catalog) Rollouts(ctx context.Context, f RolloutFilter) ([]Rollout, error) {
	if f.After != "" {
		if _, err := uuid.Parse(f.After); err != nil {
			return nil, invalid(wrong("after", "not the id of a rollout"))
		}
	}
	if err := invalid(within("limit", f.Limit, 0, math.MaxInt32)); err != nil {
		return nil, err
	}
	list, err := queryRollouts(ctx, c.writer, filteredRollouts, f.State, f.Stream, f.After, f.Limit)
	return list, wrap("list rollouts", err)
}

const openRollouts = ` where r.state in ('running', 'halted', 'partial') order by r.created_at`

// OpenRollouts lists those that are neither done nor aborted, oldest first: one for
// each stream at most.
func (c *Catalog) OpenRollouts(ctx context.Context) ([]Rollout, error) {
	list, err := queryRollouts(ctx, c.writer, openRollouts)
	return list, wrap("list rollouts", err)
}

const (
	newestRollout = ` order by r.created_at desc, r.id desc limit 1`
	// Two are enough to know that it isn't one.
	rolloutsBetween = ` where r.id between $1 and $2 order by r.id limit 2`
)

var rolloutRefPattern = regexp.MustCompile(`^[0-9a-f]{4,32}$`)

// RolloutByRef reads the rollout that a person means: by its id, or by so much of its
// beginning, four digits at least, as no other begins with. Empty means the one that
// is open, or else the newest. ErrNotFound, ErrInvalid for what is no reference, or
// one of several.
func (c *Catalog) RolloutByRef(ctx context.Context, ref string) (Rollout, error) {
	if ref == "" {
		return c.currentRollout(ctx)
	}
	digits := strings.ReplaceAll(strings.ToLower(ref), "-", "")
	if !rolloutRefPattern.MatchString(digits) {
		return Rollout{}, invalid(wrong("rollout", "want its id, or the first four digits of it at least"))
	}
	missing := 32 - len(digits)
	list, err := queryRollouts(ctx, c.writer, rolloutsBetween,
		digits+strings.Repeat("0", missing), digits+strings.Repeat("f", missing))
	switch {
	case err != nil:
		return Rollout{}, wrap("read rollout", err)
	case len(list) == 0:
		return Rollout{}, fmt.Errorf("read rollout: %w", ErrNotFound)
	case len(list) > 1:
		return Rollout{}, invalid(wrong("rollout", "more than one begins so: give more digits"))
	}
	return list[0], nil
}

func (c *Catalog) currentRollout(ctx context.Context) (Rollout, error) {
	open, err := c.OpenRollouts(ctx)
	if err != nil {
		return Rollout{}, err
	}
	if len(open) == 1 {
		return open[0], nil
	}
	r, err := queryRollout(ctx, c.writer, newestRollout)
	return r, wrap("read rollout", err)
}

const lockRollout = `
select r.id from rollouts r where r.id = $1 for no key update`

// changeRollout runs fn in a transaction that holds the rollout's row, which is
// locked before any other: its targets, tenants, and the clock come after it.
func (c *Catalog) changeRollout(ctx context.Context, op, id string, fn func(tx pgx.Tx, now Rollout) error) error {
	if _, err := uuid.Parse(id); err != nil {
		return fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	return wrap(op, pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		// Two statements: what is read is what was there once the lock was had.
		if _, err := tx.Exec(ctx, lockRollout, id); err != nil {
			return err
		}
		now, err := queryRollout(ctx, tx, ` where r.id = $1`, id)
		if err != nil {
			return err
		}
		return fn(tx, now)
	}))
}

// leading is changeRollout for who leads under r's token; ErrLost when another one
// does by now.
func (c *Catalog) leading(ctx context.Context, op string, r Rollout, fn func(tx pgx.Tx, now Rollout) error) error {
	return c.changeRollout(ctx, op, r.ID, func(tx pgx.Tx, now Rollout) error {
		if now.Token != r.Token {
			return fmt.Errorf("%s: %w", op, ErrLost)
		}
		return fn(tx, now)
	})
}

// storable is text from elsewhere as a column takes it.
func storable(text string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
}
