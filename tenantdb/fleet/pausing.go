package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/tenantdb"
)

// silent is for how long a node may have said nothing when a pause begins, which
// would wait for it; nodes say something every second.
const silent = 5 * time.Second

// What operations note of the pause that they make.
const (
	noteBegan = "paused_at" // when it began
	notePause = "pause_ms"  // how long nobody was served, in milliseconds
)

// allNodesLive is tenantdb.ErrUnavailable while a node gives no sign of life: a pause
// waits for it until it is dead, so that it is better waited for before.
func (a *act) allNodesLive(ctx context.Context) error {
	quiet, err := a.cat.SilentNodes(ctx, min(silent, a.dead/2), a.dead)
	if err == nil && len(quiet) > 0 {
		err = fmt.Errorf("%w: nodes that give no sign of life are waited for until they are dead: %v", tenantdb.ErrUnavailable, quiet)
	}
	return err
}

// endPause has the tenant be again what it was before the pause, and its database know.
func (a *act) endPause(ctx context.Context) error {
	_, err := a.cat.EndMove(ctx, a.tenant.ID)
	if errors.Is(err, catalog.ErrConflict) { // a run before this one did
		if t, terr := a.cat.Tenant(ctx, a.tenant.ID); terr == nil && t.State != catalog.Moving {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return a.fence(ctx, a.tenant.ID)
}

// tellPause notes how long nobody was served, once.
func (a *act) tellPause(ctx context.Context) {
	notes, err := a.cat.OperationNotes(ctx, a.op.ID)
	var began time.Time
	if err == nil && json.Unmarshal(notes[noteBegan], &began) == nil && len(notes[notePause]) == 0 {
		err = a.cat.NoteOperation(ctx, a.op, notePause, time.Since(began).Milliseconds())
	}
	if err != nil {
		a.log.WarnContext(ctx, "pause not noted", "operation", a.op.ID, "reason", reason(ctx, err))
	}
}
