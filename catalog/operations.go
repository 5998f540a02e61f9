package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// States of an operation. One that waits is done when it is due; one that failed
// waits for a person.
const (
	OperationWaiting   = "waiting"
	OperationRunning   = "running"
	OperationDone      = "done"
	OperationFailed    = "failed"
	OperationCancelled = "cancelled"
)

// Kinds of operations.
const (
	KindOnboard = "onboard"
	KindDelete  = "delete"
	KindMove    = "move"
	KindBackup  = "backup"
	KindRestore = "restore"
	KindExport  = "export"
)

// Operation is a long act as the catalog has it: what is to be done, how far it
// got, and who is at it.
type Operation struct {
	ID          string          `json:"id"`
	Kind        string          `json:"kind"`
	TenantID    TenantID        `json:"tenant_id"`
	Tenant      string          `json:"tenant"` // slug
	Actor       string          `json:"actor"`
	State       string          `json:"state"`
	Worker      string          `json:"worker,omitempty"`
	Token       int64           `json:"-"` // of who has it now
	Attempts    int             `json:"attempts"`
	Error       string          `json:"error,omitempty"`
	Args        json.RawMessage `json:"-"`
	CreatedAt   time.Time       `json:"created_at"`
	RunAt       time.Time       `json:"run_at"`
	LeaseUntil  *time.Time      `json:"-"`
	HeartbeatAt *time.Time      `json:"heartbeat_at,omitempty"`
	EndedAt     *time.Time      `json:"ended_at,omitempty"`
	Steps       []OperationStep `json:"steps" db:"-"`
}

// OperationStep is a part of an operation.
type OperationStep struct {
	Name      string     `json:"name"`
	State     string     `json:"state"` // waiting, running, done or failed
	StartedAt *time.Time `json:"started_at,omitempty"`
	Millis    *int64     `json:"ms,omitempty"`
	Error     string     `json:"error,omitempty"`
}

// Busy is returned for an act on a tenant while another one is going on, or waits
// for its time. It is an ErrConflict.
type Busy struct{ Operation Operation }

func (e *Busy) Error() string {
	return fmt.Sprintf("operation %s (%s) of tenant %s is %s", e.Operation.ID, e.Operation.Kind, e.Operation.Tenant, e.Operation.State)
}

// Is reports whether target is ErrConflict.
func (e *Busy) Is(target error) bool { return target == ErrConflict }

// OperationSpec is what a new operation is made from. Args must hold no secret.
type OperationSpec struct {
	Kind   string
	Tenant TenantID
	Actor  string
	Args   any
	Steps  []string
	RunAt  time.Time // zero: now
}

const operationColumns = `
select o.id::text, o.kind, o.tenant as tenant_id, coalesce(t.slug, '') as tenant, o.actor, o.state, o.worker, o.token,
       o.attempts, o.error, o.args, o.created_at, o.run_at, o.lease_until, o.heartbeat_at, o.ended_at
  from operations o left join tenants t on t.id = o.tenant`

const selectSteps = `
select s.operation::text, s.name, s.state, s.started_at,
       (extract(epoch from s.ended_at - s.started_at) * 1000)::bigint as millis, s.error
  from operation_steps s where s.operation = any($1::uuid[]) order by s.operation, s.n`

// readOperations reads operations with their steps.
func readOperations(ctx context.Context, q querier, where string, args ...any) ([]Operation, error) {
	rows, err := q.Query(ctx, operationColumns+where, args...)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Operation])
	if err != nil || len(list) == 0 {
		return list, err
	}
	at := make(map[string]*Operation, len(list))
	ids := make([]string, len(list))
	for i := range list {
		list[i].Steps = []OperationStep{}
		ids[i], at[list[i].ID] = list[i].ID, &list[i]
	}
	if rows, err = q.Query(ctx, selectSteps, ids); err != nil {
		return nil, err
	}
	var id string
	var s OperationStep
	_, err = pgx.ForEachRow(rows, []any{&id, &s.Name, &s.State, &s.StartedAt, &s.Millis, &s.Error}, func() error {
		at[id].Steps = append(at[id].Steps, s)
		return nil
	})
	return list, err
}

func readOperation(ctx context.Context, q querier, where string, args ...any) (Operation, error) {
	list, err := readOperations(ctx, q, where, args...)
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Operation{}, err
	}
	return list[0], nil
}

// Operation reads one; ErrNotFound.
func (c *Catalog) Operation(ctx context.Context, id string) (Operation, error) {
	if _, err := uuid.Parse(id); err != nil {
		return Operation{}, fmt.Errorf("read operation: %w", ErrNotFound)
	}
	o, err := readOperation(ctx, c.writer, ` where o.id = $1`, id)
	return o, wrap("read operation", err)
}

// OperationFilter narrows Operations; zero fields don't filter. After is the last
// id of the page before.
type OperationFilter struct {
	State, Kind, Tenant, After string
	Limit                      int
}

const filteredOperations = `
 where ($1 = '' or o.state = $1) and ($2 = '' or o.kind = $2) and ($3 = '' or t.slug = $3)
   and ($4 = '' or o.id < nullif($4, '')::uuid)
 order by o.id desc limit nullif($5, 0)`

// Operations lists, newest first.
func (c *Catalog) Operations(ctx context.Context, f OperationFilter) ([]Operation, error) {
	if f.After != "" {
		if _, err := uuid.Parse(f.After); err != nil {
			return nil, invalid(wrong("after", "not the id of an operation"))
		}
	}
	if f.Limit < 0 {
		return nil, invalid(within("limit", f.Limit, 0, 1<<31-1))
	}
	list, err := readOperations(ctx, c.writer, filteredOperations, f.State, f.Kind, f.Tenant, f.After, f.Limit)
	return list, wrap("list operations", err)
}

// busyWith reads the operation that a tenant is busy with; nil when it isn't.
func busyWith(ctx context.Context, q querier, id TenantID) (*Busy, error) {
	list, err := readOperations(ctx, q, ` where o.tenant = $1 and o.state in ('waiting', 'running')`, id)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &Busy{list[0]}, nil
}

const (
	insertOperation = `
insert into operations (id, kind, tenant, actor, args, run_at) values ($1, $2, $3, $4, $5, coalesce($6, now()))`
	insertStep = `
insert into operation_steps (operation, n, name) select $1, s.n, s.name from unnest($2::text[]) with ordinality as s (name, n)`
)

// beginOperation writes an operation that waits, in the caller's transaction,
// which holds the tenant's row. *Busy when the tenant is busy with another.
func beginOperation(ctx context.Context, tx pgx.Tx, spec OperationSpec) (Operation, error) {
	busy, err := busyWith(ctx, tx, spec.Tenant)
	if err != nil {
		return Operation{}, err
	}
	if busy != nil {
		return Operation{}, busy
	}
	args, err := json.Marshal(spec.Args)
	if err != nil {
		return Operation{}, invalid(wrong("args", "not JSON"))
	}
	if spec.Args == nil {
		args = []byte("{}")
	}
	id := uuid.Must(uuid.NewV7()).String()
	runAt := pgtype.Timestamptz{Time: spec.RunAt, Valid: !spec.RunAt.IsZero()}
	tenant := pgtype.UUID{Bytes: spec.Tenant.u, Valid: !spec.Tenant.IsZero()}
	if _, err := tx.Exec(ctx, insertOperation, id, spec.Kind, tenant, spec.Actor, args, runAt); err != nil {
		return Operation{}, err
	}
	if _, err := tx.Exec(ctx, insertStep, id, spec.Steps); err != nil {
		return Operation{}, err
	}
	return readOperation(ctx, tx, ` where o.id = $1`, id)
}

// BeginOperation registers an operation; a worker does it when it is due. *Busy
// when the tenant is busy with another, ErrNotFound for an unknown tenant.
func (c *Catalog) BeginOperation(ctx context.Context, spec OperationSpec) (o Operation, err error) {
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		var state State
		var epoch int64
		if err := tx.QueryRow(ctx, lockTenant, spec.Tenant).Scan(&state, &epoch); err != nil {
			return err
		}
		o, err = beginOperation(ctx, tx, spec)
		return err
	})
	return o, wrap("begin operation", err)
}

// One that nobody has taken yet waits for its time, as a deletion for the end of
// its grace: that isn't a matter of trying again.
const updateRetry = `
update operations set state = 'waiting', run_at = now(), attempts = 0, cancel = false, ended_at = null
 where id = $1 and (state = 'failed' or state = 'waiting' and token > 0)`

// RetryOperation has a failed operation, or one that waits for another try, done
// now, from the step that it came to. ErrConflict in another state and for one that
// hasn't begun, *Busy while the tenant is busy with another.
func (c *Catalog) RetryOperation(ctx context.Context, id string) (Operation, error) {
	return c.changeOperation(ctx, "retry operation", id, updateRetry)
}

const updateCancel = `
update operations set state = 'cancelled', ended_at = now() where id = $1 and state in ('waiting', 'failed')`

// CancelOperation ends an operation that waits or failed. What it has done so far
// stays: undoing it is the fleet's. ErrConflict in another state.
func (c *Catalog) CancelOperation(ctx context.Context, id string) (Operation, error) {
	return c.changeOperation(ctx, "cancel operation", id, updateCancel)
}

const requestCancel = `update operations set cancel = true where id = $1 and state = 'running'`

// RequestCancel asks the worker of a running operation to stop after its step.
// ErrConflict in another state.
func (c *Catalog) RequestCancel(ctx context.Context, id string) (Operation, error) {
	return c.changeOperation(ctx, "cancel operation", id, requestCancel)
}

// changeOperation runs a guarded update and returns the operation as it is then.
func (c *Catalog) changeOperation(ctx context.Context, op, id, update string) (Operation, error) {
	o, err := c.Operation(ctx, id)
	if err != nil {
		return o, err
	}
	tag, err := c.writer.Exec(ctx, update, id)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == uniqueViolation {
		if busy, berr := busyWith(ctx, c.writer, o.TenantID); berr == nil && busy != nil {
			return o, fmt.Errorf("%s: %w", op, busy)
		}
	}
	if err != nil {
		return o, wrap(op, err)
	}
	after, err := c.Operation(ctx, id)
	if err == nil && tag.RowsAffected() == 0 {
		err = fmt.Errorf("%s: it is %s: %w", op, after.State, ErrConflict)
	}
	return after, err
}
