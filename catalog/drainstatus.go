package catalog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// Resting is a tenant that has to leave a server that is drained, and what keeps it.
type Resting struct {
	ID    TenantID
	Slug  string
	State State

	// The operation that waits or runs for it: empty when there is none.
	Busy string // its id
	Kind string
	Due  bool // it waits, and its time has come, or who had it is dead

	// Its last move, when that failed or was cancelled, or its onboarding, when that
	// failed.
	Failed string // the operation's id
	To     string // where it should have gone; of an onboarding nowhere
	Error  string
	Now    bool // it failed since the drain was begun, or had to go on, last
}

// Of each tenant a few probes of indexes. A tenant is busy with one operation at most.
const selectResting = `
select t.id, t.slug, t.state, coalesce(b.id::text, '') as busy, coalesce(b.kind, '') as kind,
       coalesce(b.state = 'waiting' and b.run_at <= now() or b.state = 'running' and b.lease_until < now(), false) as due,
       coalesce(case when l.state in ('failed', 'cancelled') then l.id::text end, '') as failed,
       coalesce(l.args ->> 'to', '') as "to", coalesce(nullif(l.error, ''), l.state, '') as error,
       coalesce(l.ended_at >= d.begun_at, false) as now
  from server_drains d
  join tenants t on t.server_id = d.server_id and t.state not in ('deleting', 'deleted')
  left join operations b on b.tenant = t.id and b.state in ('waiting', 'running')
  left join lateral (select o.id, o.state, o.args, o.error, o.ended_at from operations o
                      where o.tenant = t.id and o.kind = case t.state when 'provisioning' then 'onboard' else 'move' end
                      order by o.created_at desc, o.id desc limit 1) l on true
 where d.id = $1 order by t.id`

// Resting lists who still has to leave the server that is drained, in the order of
// ids: all but tenants that are being deleted.
func (c *Catalog) Resting(ctx context.Context, drain string) ([]Resting, error) {
	rows, err := c.writer.Query(ctx, selectResting, drain)
	if err != nil {
		return nil, wrap("list who has to leave", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Resting])
	return list, wrap("list who has to leave", err)
}

// DrainStatus is how far a drain is.
type DrainStatus struct {
	Drain
	Left     int            `json:"left"`     // tenants that live there and have to leave
	Moving   int            `json:"moving"`   // of those: with a move that waits or runs
	Busy     int            `json:"busy"`     // of those: with another operation, which is waited for
	Moved    int            `json:"moved"`    // tenants whose move from there has them live elsewhere, since it was created
	Deleting int            `json:"deleting"` // tenants that live there and are being deleted, which is left to be
	Ready    int            `json:"ready"`    // ready databases that aren't dropped yet
	Failed   []DrainFailure `json:"failed"`   // since it was begun, or had to go on, last
	Kept     int            `json:"kept"`     // databases that tenants have left, until they are dropped
	// KeptUntil is when the last of them is dropped; nil when there is none, or one waits
	// to be confirmed.
	KeptUntil *time.Time `json:"kept_until,omitempty"`
}

// DrainFailure is a tenant that could not be moved.
type DrainFailure struct {
	Tenant    string `json:"tenant"`              // slug
	Operation string `json:"operation,omitempty"` // empty: none could be begun
	Error     string `json:"error"`
}

const countDrained = `
select (select count(*) from operations o where o.kind = 'move' and o.created_at >= d.created_at and o.args ->> 'from' = s.name
                                            and (o.state = 'done' or o.state in ('waiting', 'running')
                                                 and exists (select from tenants t where t.id = o.tenant and t.server_id <> s.id))) as moved,
       (select count(*) from tenants t where t.server_id = s.id and t.state = 'deleting') as deleting,
       (select count(*) from ready_databases r where r.server_id = s.id) as ready,
       (select count(*) from kept_databases k where k.server_id = s.id) as kept,
       (select case when count(*) = count(k.drop_at) then max(k.drop_at) end from kept_databases k where k.server_id = s.id) as kept_until
  from server_drains d join servers s on s.id = d.server_id where d.id = $1`

// DrainStatus reads how far a drain is. ErrNotFound.
func (c *Catalog) DrainStatus(ctx context.Context, id string) (s DrainStatus, err error) {
	if s.Drain, err = c.Drain(ctx, id); err != nil {
		return s, err
	}
	err = c.writer.QueryRow(ctx, countDrained, id).Scan(&s.Moved, &s.Deleting, &s.Ready, &s.Kept, &s.KeptUntil)
	if err != nil {
		return s, wrap("read drain's status", err)
	}
	s.Failed = []DrainFailure{}
	if s.State == DrainDone {
		return s, nil // who lives there now came later
	}
	list, err := c.Resting(ctx, id)
	if err != nil {
		return s, err
	}
	for _, r := range list {
		s.Left++
		switch {
		case r.Busy != "" && r.Kind == KindMove:
			s.Moving++
		case r.Busy != "":
			s.Busy++
		case r.Failed != "" && r.Now:
			s.Failed = append(s.Failed, DrainFailure{Tenant: r.Slug, Operation: r.Failed, Error: r.Error})
		}
	}
	return s, nil
}
