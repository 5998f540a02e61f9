package fleet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// childEnv, when set, makes a worker of this test binary: a process of its own that
// can be killed.
const childEnv = "FREEHOLD_FLEET_CHILD"

// order is what such a process is told.
type order struct {
	CatalogURL string
	Keyset     string // file
	Blob       blob.Config
	Heartbeat  time.Duration

	Create string // slug of a tenant to create
	Delete string // slug of a tenant to delete, without grace
	Refill bool   // ready databases
	Work   bool   // until killed
	Backup string // slug of a tenant to back up, and prove that
	Export string // slug of a tenant to export

	Move, To, Way string        // slug of a tenant to move, and where and how
	DeadAfter     time.Duration // of nodes; zero: as by default
	Drain         string        // id of one to do

	Restore, As string // slug of a tenant to restore, and as which new one; empty: in place

	Rollout  string // id of one to work on
	TakeOver bool   // and to lead, whoever does
	Worker   string // its name; empty: any
	Extra    string // a migration of Freehold's that is beyond this binary's

	DieAt string // the point at which it is killed with SIGKILL
	Nth   int    // the how manieth time it comes there; 0: the first
}

// childLife bounds a process that its test has forgotten.
const childLife = time.Minute

// obey is the life of such a process.
func obey(text string) error {
	ctx, cancel := context.WithTimeout(context.Background(), childLife)
	defer cancel()
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		return err
	}
	keys, err := catalog.ReadKeyset(o.Keyset)
	if err != nil {
		return err
	}
	cat, err := catalog.Open(ctx, catalog.Config{URL: o.CatalogURL, Keyset: keys})
	if err != nil {
		return err
	}
	defer cat.Close()
	cfg := fleet.Config{Catalog: cat, Heartbeat: o.Heartbeat, Worker: o.Worker, DeadAfter: o.DeadAfter}
	if o.Blob.Bucket != "" {
		if cfg.Blob, err = blob.Open(ctx, o.Blob, false); err != nil {
			return err
		}
	}
	if o.Extra != "" {
		cfg.Tenant = with(o.Extra)
	}
	f, err := fleet.New(cfg)
	if err != nil {
		return err
	}
	var times atomic.Int64
	f.Crash(func(point string) {
		if point == o.DieAt && times.Add(1) >= int64(o.Nth) {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
	})
	switch {
	case o.Create != "":
		_, _, err = f.Create(ctx, catalog.TenantSpec{Slug: o.Create, Email: o.Create + "@example.com"})
	case o.Delete != "":
		var t catalog.Tenant
		if t, err = cat.TenantBySlug(ctx, o.Delete); err == nil {
			err = destroy(ctx, f, t.ID)
		}
	case o.Refill:
		err = f.RefillReady(ctx)
	case o.Move != "":
		var t catalog.Tenant
		if t, err = cat.TenantBySlug(ctx, o.Move); err == nil {
			_, err = f.Move(ctx, t.ID, fleet.MoveOptions{To: o.To, Way: o.Way, Actor: "test"})
		}
	case o.Backup != "":
		var t catalog.Tenant
		if t, err = cat.TenantBySlug(ctx, o.Backup); err == nil {
			_, err = f.Backup(ctx, t.ID, fleet.BackupOptions{Actor: "test", Prove: true})
		}
	case o.Export != "":
		var t catalog.Tenant
		if t, err = cat.TenantBySlug(ctx, o.Export); err == nil {
			_, err = f.Export(ctx, t.ID, fleet.ExportOptions{Actor: "operator:test"})
		}
	case o.Restore != "":
		var t catalog.Tenant
		if t, err = cat.TenantBySlug(ctx, o.Restore); err == nil {
			err = restoreLatest(ctx, f, t.ID, o.As)
		}
	case o.Drain != "":
		_, err = f.RunDrain(ctx, o.Drain, nil)
	case o.Rollout != "":
		_, err = f.RunRollout(ctx, o.Rollout, o.TakeOver, nil)
	case o.Work:
		err = f.Work(ctx)
	}
	return err
}

// destroy deletes a tenant here and now.
func destroy(ctx context.Context, f *fleet.Fleet, id catalog.TenantID) error {
	op, err := f.Delete(ctx, id, fleet.DeleteOptions{Now: true, Actor: "test"})
	if err != nil {
		return err
	}
	return f.Do(ctx, op.ID)
}

// childMain runs an order, if this process has one.
func childMain() {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	if err := obey(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// orders are what all processes of a test have in common.
func (b *bench) orders(store blob.Config) order {
	b.Helper()
	return order{CatalogURL: b.cfg.URL, Keyset: b.keyset(), Blob: store, Heartbeat: beat}
}

// keyset writes the catalog's keys to a file.
func (b *bench) keyset() string {
	b.Helper()
	file := filepath.Join(b.TempDir(), "master.key")
	b.ok(b.cfg.Keyset.Write(file))
	return file
}

// beat is how often a worker of these tests says that it lives: a dead one is
// replaced within two and a half of them.
const beat = 400 * time.Millisecond

// start starts a process; it is killed after the test.
func (b *bench) start(o order) *exec.Cmd {
	b.Helper()
	text, err := json.Marshal(o)
	b.ok(err)
	self, err := os.Executable()
	b.ok(err)
	cmd := exec.CommandContext(b.Context(), self, "-test.run=^$")
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	b.ok(cmd.Start())
	return cmd
}

// dies starts a process that must be killed at its point, and waits for that.
func (b *bench) dies(o order) {
	b.Helper()
	var exit *exec.ExitError
	err := b.start(o).Wait()
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		b.Errorf("at %s it was not killed: %v", o.DieAt, err)
	}
}

// work runs a worker of this process until the test's own end or stop.
func (b *bench) work(f *fleet.Fleet) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- f.Work(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			if err := <-done; err != nil {
				b.Error(err)
			}
		}
	}
	b.Cleanup(stop)
	return stop
}

// settled waits until no operation waits or runs.
func (b *bench) settled(within time.Duration) {
	b.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		busy, left := 0, ""
		// In one look: between two it can go from what the second asks for to the first's.
		list, err := b.cat.Operations(b.Context(), catalog.OperationFilter{Limit: 1000})
		b.ok(err)
		for _, o := range list {
			if o.State == catalog.OperationWaiting || o.State == catalog.OperationRunning {
				busy++
				left += fmt.Sprintf("\n%s of %s is %s, attempt %d: %s", o.Kind, o.Tenant, o.State, o.Attempts, o.Error)
			}
		}
		if busy == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%d operations not done within %s:%s", busy, within, left)
		}
	}
}
