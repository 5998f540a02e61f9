package catalog_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"freehold/catalog"
)

// A worker that serves nobody is waited for by who rotates the master key, and by
// nobody else; when it ends it is forgotten.
func TestAttend(t *testing.T) {
	t.Parallel()
	r := setupRotating(t, 1)
	copied := r.copied()
	elsewhere := r.openAt(copied)
	ctx, cancel := context.WithCancel(t.Context())
	var working sync.WaitGroup
	defer working.Wait()
	defer cancel()
	working.Go(func() { elsewhere.Attend(ctx, "worker there", "v", 4, 6) })
	admin := r.admin()
	for deadline := time.Now().Add(5 * time.Second); r.number(admin, `select count(*) from nodes`) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not heard of within 5 s")
		}
	}
	if list, err := r.cat.Nodes(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("listed among the nodes: %+v, %v", list, err)
	}
	epoch, err := r.cat.SetState(t.Context(), r.tenants[0].ID, catalog.Moving, catalog.Active)
	r.ok(err)
	move, end := context.WithTimeout(t.Context(), 2*time.Second)
	defer end()
	r.ok(r.cat.AwaitDrained(move, r.tenants[0].ID, epoch, time.Minute))

	var behind *catalog.NodesBehind
	made, err := r.cat.RotateKeyset(t.Context(), "op", catalog.RotateOptions{Wait: 100 * time.Millisecond})
	if !errors.As(err, &behind) || !slices.Equal(behind.Nodes, []string{"worker there"}) || made.Resealed != 0 {
		t.Fatalf("rotated %+v: %v", made, err)
	}
	r.copyTo(copied)
	_, err = r.cat.RotateKeyset(t.Context(), "op", catalog.RotateOptions{Wait: 3 * time.Second})
	if !errors.As(err, &behind) || !behind.Sealing {
		t.Fatalf("it can't seal with the new key yet: %v", err)
	}
	r.copyTo(copied)
	done, err := r.cat.RotateKeyset(t.Context(), "op", catalog.RotateOptions{Wait: 3 * time.Second})
	r.ok(err)
	r.whole(done.New)
	cancel()
	working.Wait()
	if n := r.number(admin, `select count(*) from nodes`); n != 0 {
		t.Errorf("%d rows are left of it", n)
	}
}
