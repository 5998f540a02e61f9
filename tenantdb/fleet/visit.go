package fleet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

const (
	// visitTime bounds a visit, and visitLease is when somebody else is sent: later.
	visitTime  = 45 * time.Second
	visitLease = time.Minute
	// visitAgain is when a tenant is visited again where there was something to do,
	// and visitOn where there was more than time.
	visitAgain = time.Minute
	visitOn    = time.Second
	// visitPage is how many operators' acts are repeated at a time.
	visitPage = 500
	// visitSeals bounds the seals of a visit.
	visitSeals = 100
)

// visit is a stay in a tenant's database, as its owner.
type visit struct {
	*Fleet
	tenant catalog.Tenant
	conn   *pgx.Conn
	db     *tenantdb.DB
	began  time.Time // by the database's clock
	billed bool      // it has a ledger: its schema isn't an older release's
	tunes  bool      // it has files, jobs and models
	away   bool      // the object store is, by what this visit has seen
}

// Sessions of visits wait for nobody's locks for long, and end by themselves when
// nobody waits for them any more.
var visitParams = map[string]string{"lock_timeout": "5s", "statement_timeout": "60s"}

const selectBegin = `
select now(), to_regclass('freehold.usage_ledger') is not null, to_regclass('freehold.files') is not null`

// enter connects to a tenant's database. The caller closes the visit's conn.
func (f *Fleet) enter(ctx context.Context, t catalog.Tenant) (*visit, error) {
	cfg, err := f.ownerConfig(ctx, t.Server, t.Database)
	if err != nil {
		return nil, err
	}
	for name, value := range visitParams {
		cfg.RuntimeParams[name] = value
	}
	// tenantdb's statements take arrays, whose types the server has to say.
	cfg.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	conn, err := connect(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the tenant's database: %w", err)
	}
	v := &visit{Fleet: f, tenant: t, conn: conn, db: tenantdb.On(conn, t.Epoch)}
	if err := conn.QueryRow(ctx, selectBegin).Scan(&v.began, &v.billed, &v.tunes); err != nil {
		closeConn(ctx, conn)
		return nil, translate(ctx, err)
	}
	return v, nil
}

// report collects what a visit did, part by part.
type report struct {
	catalog.Visit
	failed []string
	busy   bool // it was at work, or something is left

	// later is when there will be something to do although nobody was here; nil: not
	// before the next daily visit.
	later *time.Duration
}

// part notes how one went. Its failure keeps no other from being done.
func (r *report) part(ctx context.Context, name string, err error) bool {
	if err != nil {
		r.failed = append(r.failed, name+": "+reason(ctx, err))
	}
	return err == nil
}

// visit does what is due in a tenant's database. The error is that there was no
// coming in; it is in the report too.
func (f *Fleet) visit(ctx context.Context, d catalog.Due) (r report, err error) {
	ctx, cancel := context.WithTimeout(ctx, visitTime)
	defer cancel()
	var v *visit
	t, err := f.cat.Tenant(ctx, d.Tenant)
	if err == nil {
		v, err = f.enter(ctx, t)
	}
	if err != nil {
		r.part(ctx, "come in", err)
	} else {
		defer closeConn(ctx, v.conn)
		v.work(ctx, d, &r)
	}
	r.Error = strings.Join(r.failed, "; ")
	if r.Next == nil && (r.busy || r.Error != "") {
		r.Next = new(visitAgain)
	}
	if r.Next == nil {
		r.Next = r.later
	}
	return r, err
}

// work is the parts, in their order: what was spooled is settled before what dead
// processes left, and both before they are sealed and billed.
func (v *visit) work(ctx context.Context, d catalog.Due, r *report) {
	if v.billed {
		v.settle(ctx, r)
		r.part(ctx, "operators' acts", v.mirror(ctx))
		r.part(ctx, "seal", v.seal(ctx))
		since := time.Time{}
		if d.RolledTo != nil {
			since = d.RolledTo.Add(-late)
		}
		lines, err := v.rollUp(ctx, since)
		if r.part(ctx, "roll up usage", err) {
			r.RolledTo = &v.began
			r.busy = r.busy || lines > 0
		}
	}
	if d.Daily {
		more, err := v.daily(ctx)
		r.Daily = r.part(ctx, "daily work", err) && !more
		if more {
			r.Next = new(visitOn)
		}
	}
	if v.tunes {
		v.tidy(ctx, r)
	}
	if v.billed {
		if d.Daily { // which tells the audit what it took
			r.part(ctx, "seal", v.seal(ctx))
		}
		r.part(ctx, "look at what is left", v.look(ctx, r))
	}
	if v.tunes {
		later, err := v.untidy(ctx)
		r.part(ctx, "look at what is to be tidied", err)
		r.later = later
	}
}

// settle settles what was spooled and what dead processes left.
func (v *visit) settle(ctx context.Context, r *report) {
	left, err := v.replay(ctx, v.db, v.tenant.ID)
	if v.away = errors.Is(err, ErrStore); !v.away {
		r.Spooled = &left
	}
	// While something waits there, it may be what a dead process would have told.
	if r.part(ctx, "spool", err) {
		_, err = v.sweep(ctx, v.db)
		r.part(ctx, "sweep", err)
	}
}

// seal seals what is in the tenant's audit, and proves that the chain leads through
// what was noted of it: who cuts it off would only have to wait until a node has
// sealed what followed. Rows of such a chain are sealed all the same: without a seal
// they could be changed too.
func (v *visit) seal(ctx context.Context) (err error) {
	noted, proven, err := v.cat.AuditHead(ctx, v.tenant.ID)
	if err != nil {
		return err
	}
	broken := v.through(ctx, noted, proven)
	if broken != nil && !errors.Is(broken, errAuditCut) {
		return broken
	}
	var head catalog.AuditHead
	for range visitSeals {
		var rows int
		if head, rows, err = v.db.Seal(ctx, v.tenant.ID, v.cat.SignAudit); err != nil {
			return err
		}
		if rows < tenantdb.SealRows {
			break
		}
	}
	if head.N == 0 || broken != nil {
		return broken
	}
	if err := v.cat.SetAuditHeads(ctx, []catalog.AuditHead{head}); err != nil {
		return err
	}
	return v.cat.ProveAuditHead(ctx, proven, head)
}

var errAuditCut = errors.New("the audit doesn't lead through what was noted of it: verify it")

const selectHead = `select s.head from freehold.audit_seals s where s.n = $1`

// through looks for noted heads in the chain: errAuditCut.
func (v *visit) through(ctx context.Context, heads ...catalog.AuditHead) error {
	for _, h := range heads {
		if h.N == 0 {
			continue
		}
		var head []byte
		err := v.conn.QueryRow(ctx, selectHead, h.N).Scan(&head)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return translate(ctx, err)
		}
		if !bytes.Equal(head, h.Head) {
			return fmt.Errorf("seal %d: %w", h.N, errAuditCut)
		}
	}
	return nil
}

// mirror repeats in the tenant's audit what operators did to it.
func (v *visit) mirror(ctx context.Context) error {
	last, err := v.db.LastOperatorSeq(ctx)
	for err == nil {
		var acts []catalog.OperatorAct
		if acts, err = v.cat.OperatorActs(ctx, v.tenant.ID, last, visitPage); err != nil || len(acts) == 0 {
			break
		}
		if err = v.db.AddOperatorActs(ctx, acts); err != nil || len(acts) < visitPage {
			break
		}
		last = acts[len(acts)-1].Seq
	}
	return err
}

const selectLeft = `
select exists (select from freehold.reservations),
       (select a.at from freehold.audit_log a where a.seal is null order by a.id limit 1)`

// look says what is left for the next visit.
func (v *visit) look(ctx context.Context, r *report) error {
	var reserved bool
	var unsealed *time.Time
	if err := v.conn.QueryRow(ctx, selectLeft).Scan(&reserved, &unsealed); err != nil {
		return translate(ctx, err)
	}
	r.busy = r.busy || reserved || unsealed != nil
	if unsealed == nil {
		unsealed = new(time.Time)
	}
	r.Unsealed = unsealed
	return nil
}
