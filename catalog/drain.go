package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// States of a drain. It is open, and the only one of its server that is, while it is
// running or halted.
const (
	DrainRunning   = "running"
	DrainHalted    = "halted" // nothing new is begun, until a person has it go on
	DrainDone      = "done"
	DrainCancelled = "cancelled" // who had left by then stays where they went
)

// Ways in which a tenant is moved.
const (
	WayAuto        = "auto" // by replication where that can be, else by copy
	WayReplication = "replication"
	WayCopy        = "copy"
)

// Drain is how a server is left by everybody.
type Drain struct {
	ID          string     `json:"id"`
	Server      string     `json:"server"`
	Actor       string     `json:"actor"` // who had it begin, or go on, last
	To          string     `json:"to,omitempty"`
	Way         string     `json:"way"`
	Parallel    int        `json:"parallel"`
	MaxFailures int        `json:"max_failures"`
	State       string     `json:"state"`
	Error       string     `json:"error,omitempty"` // why it is halted
	Token       int64      `json:"-"`               // of who has it now
	Worker      string     `json:"worker,omitempty"`
	LeaseUntil  *time.Time `json:"-"`
	BegunAt     time.Time  `json:"begun_at"` // last, by a person
	CreatedAt   time.Time  `json:"created_at"`
	EndedAt     *time.Time `json:"ended_at,omitempty"`
}

// Open reports whether it is neither done nor cancelled.
func (d Drain) Open() bool { return d.State == DrainRunning || d.State == DrainHalted }

// DrainSpec is what a drain is begun with. Server and Actor are required, and
// Parallel: moves at a time, 1 to 64. To is a server by name; empty: wherever there
// is room. Way is WayAuto when empty. MaxFailures are borne; one more halts it.
type DrainSpec struct {
	Server, Actor, To, Way string
	Parallel, MaxFailures  int
}

// maxDrainParallel is how many moves of one drain there may be at a time.
const maxDrainParallel = 64

func (s DrainSpec) validate() error {
	errs := []error{
		line("actor", s.Actor, maxName),
		oneOf("way", s.Way, WayAuto, WayReplication, WayCopy),
		within("parallel", s.Parallel, 1, maxDrainParallel),
		within("max_failures", s.MaxFailures, 0, 1<<31-1),
	}
	if s.To == s.Server {
		errs = append(errs, wrong("to", "it is the server itself"))
	}
	return invalid(errs...)
}

const selectDrains = `
select d.id::text, s.name as server, d.actor, d.target as "to", d.way, d.parallel, d.max_failures, d.state, d.error,
       d.token, d.worker, d.lease_until, d.begun_at, d.created_at, d.ended_at
  from server_drains d join servers s on s.id = d.server_id`

func queryDrains(ctx context.Context, q querier, where string, args ...any) ([]Drain, error) {
	rows, err := q.Query(ctx, selectDrains+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByName[Drain])
}

func queryDrain(ctx context.Context, q querier, where string, args ...any) (Drain, error) {
	list, err := queryDrains(ctx, q, where, args...)
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Drain{}, err
	}
	return list[0], nil
}

const (
	newestDrain = ` where s.name = $1 order by d.created_at desc, d.id desc limit 1`
	openDrains  = ` where d.state in ('running', 'halted') order by s.name`
)

// DrainOf reads a server's drain, by the server's name: the open one, or the last.
// ErrNotFound when there was none.
func (c *Catalog) DrainOf(ctx context.Context, server string) (Drain, error) {
	d, err := queryDrain(ctx, c.writer, newestDrain, server)
	return d, wrap("read drain", err)
}

// OpenDrains lists those that run or are halted, by server.
func (c *Catalog) OpenDrains(ctx context.Context) ([]Drain, error) {
	list, err := queryDrains(ctx, c.writer, openDrains)
	return list, wrap("list drains", err)
}

const (
	lockServerToDrain = `select id::text, state from servers where name = $1 for no key update`
	targetThere       = `select exists (select from servers where name = $1)`
	openDrainOf       = ` where d.server_id = $1 and d.state in ('running', 'halted')`
	setServerState    = `update servers set state = $2 where id = $1`

	insertDrain = `
insert into server_drains (id, server_id, actor, target, way, parallel, max_failures, token, worker, lease_until)
values ($1, $2, $3, $4, $5, $6, $7, 1, $8, case when $8 <> '' then now() + $9::interval end)`

	// Whoever had it has it no longer.
	resumeDrain = `
update server_drains
   set state = 'running', error = '', actor = $2, target = $3, way = $4, parallel = $5, max_failures = $6, begun_at = now(),
       token = token + 1, worker = $7, lease_until = case when $7 <> '' then now() + $8::interval end
 where id = $1`
)

// BeginDrain has everybody leave a server: it takes no new tenants from now on. A
// drain of it that is open goes on, as the spec says now; what failed is tried again.
// The taker has it then, whoever did; with an empty Worker nobody does, and a worker
// takes it. It is written to operator_audit. ErrNotFound for an unknown server or
// target, ErrConflict for a server that is down, ErrInvalid.
func (c *Catalog) BeginDrain(ctx context.Context, spec DrainSpec, by Taker) (d Drain, err error) {
	spec.Way = orDefault(spec.Way, WayAuto)
	if err := spec.validate(); err != nil {
		return d, fmt.Errorf("begin drain: %w", err)
	}
	ctx, cancel, err := whole(ctx)
	if err != nil {
		return d, wrap("begin drain", err)
	}
	defer cancel()
	err = c.changePlatform(ctx, "begin drain", func(tx pgx.Tx) error {
		var server, state string
		if err := tx.QueryRow(ctx, lockServerToDrain, spec.Server).Scan(&server, &state); err != nil {
			return err
		}
		if state == ServerDown {
			return fmt.Errorf("begin drain: it is down, and nobody can be moved from there: %w", ErrConflict)
		}
		if spec.To != "" {
			var there bool
			if err := tx.QueryRow(ctx, targetThere, spec.To).Scan(&there); err != nil {
				return err
			}
			if !there {
				return fmt.Errorf("begin drain: server %s: %w", spec.To, ErrNotFound)
			}
		}
		if _, err := tx.Exec(ctx, setServerState, server, ServerDraining); err != nil {
			return err
		}
		if d, err = writeDrain(ctx, tx, server, spec, by); err != nil {
			return err
		}
		return auditDrain(ctx, tx, spec.Actor, "server.drain", d)
	})
	if err != nil {
		return Drain{}, err
	}
	return d, nil
}

// writeDrain has the server's open drain go on, or writes one.
func writeDrain(ctx context.Context, tx pgx.Tx, server string, spec DrainSpec, by Taker) (Drain, error) {
	open, err := queryDrain(ctx, tx, openDrainOf, server)
	id := open.ID
	switch {
	case err == nil:
		_, err = tx.Exec(ctx, resumeDrain, id, spec.Actor, spec.To, spec.Way, spec.Parallel, spec.MaxFailures, by.Worker, by.Lease)
	case errors.Is(err, pgx.ErrNoRows):
		id = uuid.Must(uuid.NewV7()).String()
		_, err = tx.Exec(ctx, insertDrain, id, server, spec.Actor, spec.To, spec.Way, spec.Parallel, spec.MaxFailures, by.Worker, by.Lease)
	}
	if err != nil {
		return Drain{}, err
	}
	return queryDrain(ctx, tx, ` where d.id = $1`, id)
}

func auditDrain(ctx context.Context, tx pgx.Tx, actor, action string, d Drain) error {
	text, err := json.Marshal(map[string]any{
		"server": d.Server, "drain": d.ID, "to": d.To, "way": d.Way, "parallel": d.Parallel, "max_failures": d.MaxFailures,
	})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, appendAudit, actor, action, nil, text)
	return err
}

const (
	endOpenDrain = `
update server_drains set state = 'cancelled', worker = '', lease_until = null, ended_at = now() where id = $1`
	activateDrained = `update servers set state = 'active' where id = $1 and state = 'draining'`
)

// CancelDrain ends a server's open drain, by the server's name, and has it take
// tenants again: who has left stays where they are, and moves under way end. It is
// written to operator_audit. ErrNotFound, ErrConflict when no drain is open.
func (c *Catalog) CancelDrain(ctx context.Context, server, actor string) (d Drain, err error) {
	if err := invalid(line("actor", actor, maxName)); err != nil {
		return d, fmt.Errorf("cancel drain: %w", err)
	}
	err = c.changePlatform(ctx, "cancel drain", func(tx pgx.Tx) error {
		var id, state string
		if err := tx.QueryRow(ctx, lockServerToDrain, server).Scan(&id, &state); err != nil {
			return err
		}
		d, err = queryDrain(ctx, tx, openDrainOf, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("cancel drain: no drain of it is open: %w", ErrConflict)
		}
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, endOpenDrain, d.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, activateDrained, id); err != nil {
			return err
		}
		if d, err = queryDrain(ctx, tx, ` where d.id = $1`, d.ID); err != nil {
			return err
		}
		return auditDrain(ctx, tx, actor, "server.drain.cancel", d)
	})
	if err != nil {
		return Drain{}, err
	}
	return d, nil
}
