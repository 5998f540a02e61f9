package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
)

// putBackTimeout bounds how long Pause tries to take back what it couldn't finish.
const putBackTimeout = 5 * time.Second

// Paused is a tenant that no node serves: its requests wait, and nobody holds a
// connection to its database from before the pause.
type Paused struct {
	fleet  *Fleet
	id     catalog.TenantID
	before catalog.State
}

// Pause stops an active or suspended tenant for a move: catalog state, fence, and
// then it waits, as long as ctx does, until every live node has let go of the
// tenant. When that fails the state is put back. Errors: catalog.ErrConflict in
// any other state, ErrUnfenced, *catalog.NotDrained. The caller resumes.
func (f *Fleet) Pause(ctx context.Context, id catalog.TenantID) (Paused, error) {
	t, err := f.cat.Tenant(ctx, id)
	if err != nil {
		return Paused{}, fmt.Errorf("pause tenant: %w", err)
	}
	if t.State != catalog.Active && t.State != catalog.Suspended {
		return Paused{}, fmt.Errorf("pause tenant: it is %s: %w", t.State, catalog.ErrConflict)
	}
	epoch, err := f.cat.SetState(ctx, id, catalog.Moving, t.State)
	if err != nil {
		return Paused{}, fmt.Errorf("pause tenant: %w", err)
	}
	p := Paused{fleet: f, id: id, before: t.State}
	if err = f.fence(ctx, id); err == nil {
		err = f.cat.AwaitDrained(ctx, id, epoch, f.dead)
	}
	if err != nil {
		return Paused{}, fmt.Errorf("pause tenant: %w", errors.Join(err, p.putBack(ctx)))
	}
	f.log.InfoContext(ctx, "tenant paused", "tenant", id.String(), "was", string(p.before))
	return p, nil
}

// putBack needs no fence: whoever knows the older truth knows the same.
func (p Paused) putBack(ctx context.Context) error {
	// The caller's time may be what was too short.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), putBackTimeout)
	defer cancel()
	if _, err := p.fleet.cat.SetState(ctx, p.id, p.before, catalog.Moving); err != nil {
		return fmt.Errorf("put its state back: %w", err)
	}
	return nil
}

// Switch has the tenant live on another server (by name), where its database must
// be complete under the same name. Nobody is served there before Resume.
func (p Paused) Switch(ctx context.Context, server string) error {
	if _, err := p.fleet.cat.SwitchServer(ctx, p.id, server); err != nil {
		return fmt.Errorf("switch tenant: %w", err)
	}
	p.fleet.log.InfoContext(ctx, "tenant switched", "tenant", p.id.String(), "server", server)
	return nil
}

// Resume ends the pause: the tenant is again what it was before, and the fence of
// the database where it lives now is raised. Twice is no error: after ErrUnfenced
// it finishes the first.
func (p Paused) Resume(ctx context.Context) error {
	return p.fleet.transition(ctx, "resume tenant", p.id, p.before, catalog.Moving)
}
