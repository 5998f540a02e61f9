package fleet

import (
	"context"
	"errors"
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
// ErrNotIsolated says what was wrong. An attempt that told neither, because a
// neighbour was dropped under it, is no hole: all are made again, and a server that
// goes on like that is one that is away.
func (h *home) prove(ctx context.Context) error {
	for try := 1; ; try++ {
		err := h.tryProve(ctx)
		if !errors.Is(err, errUnproven) || try == proofTries {
			return err
		}
	}
}

const proofTries = 3

var errUnproven = fmt.Errorf("isolation could not be proven: %w", tenantdb.ErrUnavailable)

// unknown begins the result of an attempt that told nothing.
const unknown = "UNKNOWN: "

func (h *home) tryProve(ctx context.Context) error {
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
	var untold []string
	for _, l := range lines {
		switch told := l.Try + ": " + l.Result; {
		case l.OK:
		case strings.HasPrefix(l.Result, unknown):
			untold = append(untold, told)
		default:
			wrong = append(wrong, told)
		}
	}
	switch {
	case len(wrong) > 0:
		return fmt.Errorf("%w: %s", ErrNotIsolated, strings.Join(wrong, "; "))
	case len(untold) > 0:
		return fmt.Errorf("%w: %s", errUnproven, strings.Join(untold, "; "))
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
