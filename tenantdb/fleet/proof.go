package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"freehold/tenantdb"
)

// provenNeighbours is how many other databases a new tenant's role really tries to
// connect to; of all the others its server's own word is taken. `tenant prove`
// tries every one.
const provenNeighbours = 2

// prove tries, as the new role, what it must not get through with: it connects to
// its own database and can't to others, and every forbidden grant is refused.
// ErrNotIsolated says what was wrong.
func (h *home) prove(ctx context.Context) error {
	login, err := h.login(ctx)
	if err != nil {
		return err
	}
	p, err := h.newProof(ctx, h.conn, h.name(), login)
	if err != nil {
		return err
	}
	conn, err := connect(ctx, p.cfg)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	if err := tenantdb.Prove(ctx, conn, h.id); err != nil {
		return err
	}
	open, err := openTo(ctx, h.conn, h.name(), h.name())
	if err != nil {
		return err
	}
	var wrong []string
	for _, database := range open {
		wrong = append(wrong, "connect to database "+database)
	}
	p.databases = p.nearby()
	lines := p.connections(ctx)
	line, err := memberships(ctx, conn)
	if err != nil {
		return err
	}
	lines = append(lines, line)
	for _, try := range p.forbidden() {
		line, err := try.run(ctx, conn)
		if err != nil {
			return fmt.Errorf("%s: %w", try.what, err)
		}
		lines = append(lines, line)
	}
	for _, l := range lines {
		if !l.OK {
			wrong = append(wrong, l.Try+": "+l.Result)
		}
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", ErrNotIsolated, strings.Join(wrong, "; "))
	}
	return nil
}

// nearby are databases that everybody gets into by default, and the tenants' that
// were made last.
func (p *proof) nearby() []string {
	var tenants, near []string
	for _, database := range p.databases {
		switch {
		case tenantDatabase.MatchString(database):
			tenants = append(tenants, database)
		case database == maintenance || database == "template1":
			near = append(near, database)
		}
	}
	// Their names begin with the time at which they were made.
	slices.Sort(tenants)
	return append(near, tenants[max(0, len(tenants)-provenNeighbours):]...)
}
