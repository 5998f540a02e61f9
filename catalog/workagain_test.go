package catalog_test

import (
	"errors"
	"testing"

	"freehold/catalog"
)

// Work that the queue has lost comes back, whatever the limit, and work that it has
// stays as it is.
func TestEnqueueAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme := b.tenant("acme")
	b.limits(acme, 5, 1)
	kept := b.enqueue(acme)
	lost := newWork(acme)
	for range 2 {
		b.ok(b.cat.EnqueueAgain(ctx, catalog.WorkSpec{ID: kept, Tenant: acme.ID, Trainer: "openai"}))
		b.ok(b.cat.EnqueueAgain(ctx, lost))
	}
	b.ok(b.cat.DropWork(ctx, lost.ID)) // somebody may have had it
	for _, want := range []string{kept, lost.ID} {
		if item := b.work("w"); item.ID != want || item.Trainer != "builtin" || item.Stage != catalog.WorkValidate || item.Token <= 1 {
			t.Errorf("%+v, want %s", item, want)
		}
	}
	b.idle("both are taken")
	b.ok(b.cat.EnqueueAgain(ctx, lost)) // while a worker has it
	b.idle("both are taken")

	_, err := b.cat.SetState(ctx, acme.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	if err := b.cat.EnqueueAgain(ctx, newWork(acme)); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("suspended: %v", err)
	}
	nobody := catalog.WorkSpec{ID: lost.ID, Tenant: catalog.NewTenantID(), Trainer: "builtin"}
	if err := b.cat.EnqueueAgain(ctx, nobody); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
	nobody.Trainer = "sh -c"
	if err := b.cat.EnqueueAgain(ctx, nobody); !errors.Is(err, catalog.ErrInvalid) {
		t.Errorf("not a trainer: %v", err)
	}
}
