package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet/replica"
)

// Ways of a move.
const (
	// ByReplication copies while the tenant is served, and pauses it for the rest.
	ByReplication = "replication"
	// ByCopy pauses the tenant for as long as the copying takes.
	ByCopy = "copy"
	// ByAny is by replication where that can be, and otherwise by a copy that is
	// expected not to take longer than MaxPause.
	ByAny = "auto"
)

const (
	// DefaultMaxPause is for how long a tenant may be paused: what its requests wait.
	DefaultMaxPause = 10 * time.Second
	// longestCopy bounds a pause that was asked for by name.
	longestCopy = 12 * time.Hour
	// copyRate is how many bytes of a database a copy under pause is expected to get
	// through in a second, its indexes and its comparison included, and copyBase what
	// it takes besides.
	copyRate = 16 << 20
	copyBase = time.Second
)

// ErrNeedsPause is returned for a move that can only be a copy under pause, which
// would take longer than it may: the text says why, and how long.
var ErrNeedsPause = errors.New("the move needs a longer pause")

// MoveOptions say where a tenant goes, and how.
type MoveOptions struct {
	To     string        // server; empty: where there is room
	Region string        // needed to leave the tenant's region: residency
	Way    string        // ByReplication, ByCopy or ByAny; default ByAny
	Actor  string        // who asked
	Grace  time.Duration // for how long the old database is kept; default DefaultKeep
	// MaxPause bounds the pause: what takes longer is taken back and tried again.
	// Default DefaultMaxPause; a copy that was asked for by name takes what it takes.
	MaxPause time.Duration
}

func (o MoveOptions) withDefaults() MoveOptions {
	if o.Way == "" {
		o.Way = ByAny
	}
	if o.Grace == 0 {
		o.Grace = DefaultKeep
	}
	if o.MaxPause == 0 {
		o.MaxPause = DefaultMaxPause
	}
	return o
}

func (o MoveOptions) validate() error {
	switch {
	case o.Way != ByAny && o.Way != ByReplication && o.Way != ByCopy:
		return &catalog.Invalid{Field: "way", Text: "way: want auto, replication or copy"}
	case o.Grace < 0 || o.Grace > MaxGrace:
		return &catalog.Invalid{Field: "grace", Text: fmt.Sprintf("grace: want 0 to %s", MaxGrace)}
	case o.MaxPause < time.Second || o.MaxPause > longestCopy:
		return &catalog.Invalid{Field: "max_pause", Text: fmt.Sprintf("max pause: want 1s to %s", longestCopy)}
	}
	return nil
}

// MovePlan is what a move would be.
type MovePlan struct {
	Tenant string        `json:"tenant"` // slug
	From   string        `json:"from"`
	To     string        `json:"to"`
	Way    string        `json:"way"`
	Why    []string      `json:"why,omitempty"` // not by replication
	Bytes  int64         `json:"bytes"`
	Pause  time.Duration `json:"pause_ns"` // about; for a replication, of its end
}

// moveArgs are the arguments of a move, as the catalog has them.
type moveArgs struct {
	From     string        `json:"from"`
	To       string        `json:"to"`
	Way      string        `json:"way"`
	Why      []string      `json:"why,omitempty"`
	Bytes    int64         `json:"bytes"`
	Grace    time.Duration `json:"grace_ns"`
	MaxPause time.Duration `json:"max_pause_ns"`
}

// PlanMove tells what a move would be, and changes nothing. Errors are BeginMove's.
func (f *Fleet) PlanMove(ctx context.Context, id catalog.TenantID, o MoveOptions) (MovePlan, error) {
	o = o.withDefaults()
	plan, err := f.planMove(ctx, id, o)
	if err != nil {
		return plan, fmt.Errorf("move tenant: %w", err)
	}
	return plan, nil
}

func (f *Fleet) planMove(ctx context.Context, id catalog.TenantID, o MoveOptions) (p MovePlan, err error) {
	if err := o.validate(); err != nil {
		return p, err
	}
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return p, err
	}
	p = MovePlan{Tenant: t.Slug, From: t.Server, Way: o.Way, Pause: copyBase}
	if t.State != catalog.Active && t.State != catalog.Suspended {
		return p, fmt.Errorf("it is %s: %w", t.State, catalog.ErrConflict)
	}
	target, err := f.cat.MoveTarget(ctx, id, o.To, o.Region)
	if err != nil {
		return p, err
	}
	p.To = target.Name
	found, err := f.lookInto(ctx, t)
	if err != nil {
		return p, err
	}
	p.Bytes = found.bytes
	return p, f.chooseWay(ctx, &p, t, found, o)
}

// chooseWay decides how a tenant moves, and says why when it isn't by replication.
func (f *Fleet) chooseWay(ctx context.Context, p *MovePlan, t catalog.Tenant, found inside, o MoveOptions) error {
	if p.Way == ByCopy {
		p.Pause = copying(p.Bytes)
		return nil
	}
	why := slices.Clone(found.obstacles)
	link, known, err := f.cat.ServerLink(ctx, p.From, p.To)
	switch {
	case err != nil:
		return err
	case !known:
		why = append(why, "nobody has tried yet whether server "+p.To+" reaches server "+p.From+": freehold server show "+p.To+" --check")
	case link != "":
		why = append(why, link)
	}
	switch {
	case p.Way == ByAny && t.State == catalog.Suspended:
		p.Way, p.Why, p.Pause = ByCopy, []string{"it is suspended: nobody waits"}, copying(p.Bytes)
		return nil
	case len(why) == 0:
		p.Way = ByReplication
		return nil
	case p.Way == ByReplication:
		return fmt.Errorf("%w: not by replication: %s: %w", ErrNeedsPause, strings.Join(why, "; "), catalog.ErrConflict)
	}
	p.Way, p.Why, p.Pause = ByCopy, why, copying(p.Bytes)
	if p.Pause > o.MaxPause {
		return fmt.Errorf("%w: not by replication (%s), and a copy would pause the tenant for about %s; allow it with --by copy: %w",
			ErrNeedsPause, strings.Join(why, "; "), p.Pause.Round(time.Second), catalog.ErrConflict)
	}
	return nil
}

// copying is about how long a copy under pause takes.
func copying(bytes int64) time.Duration {
	return copyBase + time.Duration(float64(bytes)/copyRate*float64(time.Second))
}

// inside is what there is in a tenant's database.
type inside struct {
	bytes     int64
	obstacles []string // to a replication
}

func (f *Fleet) lookInto(ctx context.Context, t catalog.Tenant) (found inside, err error) {
	conn, err := f.owner(ctx, t)
	if err != nil {
		return found, err
	}
	defer closeConn(ctx, conn)
	if err := conn.QueryRow(ctx, databaseSize, t.Database).Scan(&found.bytes); err != nil {
		return found, translate(ctx, err)
	}
	found.obstacles, err = replica.Obstacles(ctx, conn)
	return found, translate(ctx, err)
}

// BeginMove registers the move of an active or suspended tenant to another server: a
// worker does it, or Do. Refused before anything changes: catalog.ErrInvalid,
// catalog.ErrNotFound, *catalog.Full, *catalog.Busy, catalog.ErrConflict in any other
// state, ErrNeedsPause, tenantdb.ErrUnavailable.
func (f *Fleet) BeginMove(ctx context.Context, id catalog.TenantID, o MoveOptions) (catalog.Operation, error) {
	o = o.withDefaults()
	p, err := f.planMove(ctx, id, o)
	if err != nil {
		return catalog.Operation{}, fmt.Errorf("move tenant: %w", err)
	}
	if p.Way == ByCopy && o.Way == ByCopy {
		o.MaxPause = longestCopy
	}
	op, err := f.cat.BeginMove(ctx, catalog.OperationSpec{
		Kind: catalog.KindMove, Tenant: id, Actor: o.Actor, Steps: stepNames(moving),
	}, p.To, o.Region, func(catalog.Server) any {
		return moveArgs{From: p.From, To: p.To, Way: p.Way, Why: p.Why, Bytes: p.Bytes, Grace: o.Grace, MaxPause: o.MaxPause}
	})
	if err != nil {
		return op, fmt.Errorf("move tenant: %w", err)
	}
	f.log.InfoContext(ctx, "move begun", "tenant", id.String(), "operation", op.ID, "from", p.From, "to", p.To, "way", p.Way)
	return op, nil
}

// Move moves a tenant here and now. When this process dies, a worker goes on with it
// within seconds. Errors: BeginMove's, *Unfinished.
func (f *Fleet) Move(ctx context.Context, id catalog.TenantID, o MoveOptions) (catalog.Operation, error) {
	op, err := f.BeginMove(ctx, id, o)
	if err != nil {
		return op, err
	}
	if err := f.Do(ctx, op.ID); err != nil {
		return op, fmt.Errorf("move tenant: %w", f.unfinished(ctx, op, err))
	}
	return f.cat.Operation(ctx, op.ID)
}

// moving moves a tenant. Until the catalog says that it lives elsewhere it can be
// taken back; from then on it goes forward only.
var moving = []step{
	{"check", checkMove},
	{"home", makeNewHome},
	{"replicate", beginReplication},
	{"sync", awaitSync},
	{"compare", compareServed},
	{"cutover", cutOver},
	{"retire", retireOld},
}

// mover is an act that moves its tenant.
type mover struct {
	*act
	args moveArgs
	link string // the name of all that a replication makes on both servers
}

func (a *act) mover(ctx context.Context) (*mover, error) {
	m := &mover{act: a}
	if err := a.args(&m.args); err != nil {
		return m, err
	}
	ours, err := a.linkPrefix(ctx)
	m.link = linkOf(ours, a.op.ID)
	return m, err
}

// linkPrefix begins the names of what this catalog's moves make on servers, which
// other catalogs may share.
func (f *Fleet) linkPrefix(ctx context.Context) (string, error) {
	id, err := f.cat.CatalogID(ctx)
	return "freehold_move_" + lastDigits(id, 8) + "_", err
}

// linkOf is the name of what the move of an operation makes.
func linkOf(prefix, operation string) string { return prefix + lastDigits(operation, 16) }

// lastDigits are the last n digits of a uuid.
func lastDigits(id string, n int) string {
	digits := strings.ReplaceAll(id, "-", "")
	return digits[max(0, len(digits)-n):]
}

// replicated makes a step that only a move by replication has, before the tenant has
// gone.
func replicated(do func(context.Context, *mover) error) func(context.Context, *act) error {
	return func(ctx context.Context, a *act) error {
		m, err := a.mover(ctx)
		if err != nil || m.args.Way != ByReplication {
			return err
		}
		if err := a.lock(ctx); err != nil {
			return err
		}
		return do(ctx, m)
	}
}

// on connects to the tenant's database on one of the two servers, as its admin.
func (m *mover) on(ctx context.Context, server string) (*pgx.Conn, error) {
	return m.admin(ctx, server, m.tenant.Database)
}

// both connects to the tenant's database on both servers, as their admins. The caller
// closes both.
func (m *mover) both(ctx context.Context) (source, target *pgx.Conn, err error) {
	if source, err = m.on(ctx, m.args.From); err != nil {
		return nil, nil, err
	}
	if target, err = m.on(ctx, m.args.To); err != nil {
		closeConn(ctx, source)
		return nil, nil, err
	}
	for _, conn := range []*pgx.Conn{source, target} {
		if err := replica.Settle(ctx, conn); err != nil {
			closeConn(ctx, source)
			closeConn(ctx, target)
			return nil, nil, translate(ctx, err)
		}
	}
	return source, target, nil
}
