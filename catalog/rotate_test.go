package catalog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"freehold/catalog"
)

// rotating is a catalog whose master key is a file, with secrets of all kinds.
type rotating struct {
	*bench
	path    string
	tenants []catalog.Tenant
	plain   map[string]string // what must come out of each secret, before and after
}

func setupRotating(t *testing.T, tenants int) *rotating {
	t.Helper()
	b := setup(t)
	r := &rotating{bench: b, path: filepath.Join(t.TempDir(), "master.json")}
	b.ok(b.keys.Write(r.path))
	r.cfg.Keyset = r.read(r.path)
	r.cat = r.open()
	for range tenants {
		r.tenants = append(r.tenants, r.tenant(unique("tenant")))
	}
	for _, spec := range []catalog.EngineSpec{
		{Name: "keyed", Kind: "openai", BaseURL: "http://h/v1", Key: "sk-1"}, {Name: "bare", Kind: "builtin"},
	} {
		_, err := r.cat.AddEngine(t.Context(), spec)
		r.ok(err)
	}
	r.plain = r.secrets(r.cat)
	return r
}

func (r *rotating) read(path string) *catalog.Keyset {
	r.Helper()
	k, err := catalog.ReadKeyset(path)
	r.ok(err)
	return k
}

// copied is what another machine has of the file.
func (r *rotating) copied() string {
	r.Helper()
	path := filepath.Join(r.TempDir(), "copy.json")
	r.copyTo(path)
	return path
}

func (r *rotating) copyTo(path string) {
	r.Helper()
	text, err := os.ReadFile(r.path)
	r.ok(err)
	r.ok(os.WriteFile(path, text, 0o600))
}

func (r *rotating) openAt(path string) *catalog.Catalog {
	r.Helper()
	cfg := r.cfg
	cfg.Keyset = r.read(path)
	c, err := catalog.Open(r.Context(), cfg)
	r.ok(err)
	r.Cleanup(c.Close)
	return c
}

// secrets opens everything that is sealed.
func (r *rotating) secrets(c *catalog.Catalog) map[string]string {
	r.Helper()
	all := map[string]string{}
	for _, t := range r.tenants {
		route, err := c.Route(r.Context(), t.ID)
		r.ok(err)
		all[t.Slug] = route.Config.Password
	}
	admin, err := c.ServerAdmin(r.Context(), "pg-1", "postgres")
	r.ok(err)
	all["server"] = admin.Password
	all["engine"], err = c.EngineKey(r.Context(), "keyed")
	r.ok(err)
	return all
}

// whole checks that all is sealed with the key, says what it said, and that no
// epoch moved.
func (r *rotating) whole(keyID int64) {
	r.Helper()
	admin := r.admin()
	for _, table := range []string{"servers", "engines where secret is not null", "tenants"} {
		if n := r.number(admin, `select count(distinct secret_key_id) * 1000000000000 + max(secret_key_id) from `+table); n != 1000000000000+keyID {
			r.Errorf("%s are not all sealed with key %d", table, keyID)
		}
	}
	if n := r.number(admin, `select ('x' || encode(substr(sealed, 2, 4), 'hex'))::bit(32)::bigint from catalog_seal`); n != keyID {
		r.Errorf("the seal is key %d's, want %d", n, keyID)
	}
	fresh := r.openAt(r.path)
	for name, want := range r.plain {
		if got := r.secrets(fresh)[name]; got != want {
			r.Errorf("the secret of %s changed", name)
		}
	}
}

func TestRotateKeyset(t *testing.T) {
	t.Parallel()
	r := setupRotating(t, 5)
	ctx := t.Context()
	// The second process began with the old file and has never looked again.
	cache := r.cache(r.openAt(r.path), catalog.CacheConfig{NodeName: "node-1"})
	_, token := r.key(r.tenants[0].ID, "all")
	before := r.number(r.admin(), `select seq from catalog_clock`)

	working, stop := context.WithCancel(ctx)
	var asking sync.WaitGroup
	var asked int
	asking.Go(func() {
		for ; working.Err() == nil; asked++ {
			time.Sleep(time.Millisecond) // the machine is other tests' too
			if _, err := cache.Authenticate(ctx, token); err != nil {
				t.Errorf("authenticate: %v", err)
				return
			}
			id := r.tenants[asked%len(r.tenants)].ID
			cache.Refresh(id) // so that it is read, and its secret opened
			if _, err := cache.Route(ctx, id, 0); err != nil {
				t.Errorf("route: %v", err)
				return
			}
		}
	})
	var last, total int
	done, err := r.cat.RotateKeyset(ctx, "ann", catalog.RotateOptions{Progress: func(done, of int) { last, total = done, of }})
	stop()
	asking.Wait()
	r.ok(err)
	if asked == 0 {
		t.Error("nobody asked meanwhile")
	}
	if done.Old == done.New || done.Resealed != 7 || len(done.Unreadable) > 0 || last != 7 || total != 7 {
		t.Errorf("rotated %+v, progress %d of %d", done, last, total)
	}
	r.whole(done.New)
	if after := r.number(r.admin(), `select seq from catalog_clock`); after != before {
		t.Errorf("the clock moved from %d to %d", before, after)
	}
	if n := r.number(r.admin(), `select count(*) from operator_audit where actor = 'ann' and action in ('keyset.rotate.begin', 'keyset.rotate')`); n != 2 {
		t.Errorf("%d audit rows, want 2", n)
	}
	// Once more: another key, and the first one is still there.
	again, err := r.cat.RotateKeyset(ctx, "ann", catalog.RotateOptions{})
	r.ok(err)
	r.whole(again.New)
	if ids := r.read(r.path).KeyIDs(); again.Old != done.New || !slices.Equal(ids, []int64{again.New, done.Old, done.New}) {
		t.Errorf("rotated %+v then %+v, keys %v", done, again, ids)
	}
}

// A node on another machine has a file of its own. Nothing is sealed with a key
// that it doesn't know, and the rotation ends only when it seals with the new one.
func TestRotateKeyset_nodeElsewhere(t *testing.T) {
	t.Parallel()
	r := setupRotating(t, 2)
	far := r.copied()
	r.cache(r.openAt(far), catalog.CacheConfig{NodeName: "far"})
	rotate := func() (catalog.Rotation, *catalog.NodesBehind) {
		t.Helper()
		got, err := r.cat.RotateKeyset(t.Context(), "ann", catalog.RotateOptions{Wait: 100 * time.Millisecond})
		behind := &catalog.NodesBehind{}
		if err != nil && !errors.As(err, &behind) {
			t.Fatal(err)
		}
		return got, behind
	}
	admin := r.admin()
	told := func(what, where string, keyID int64) {
		t.Helper()
		r.within(10*time.Second, what, func() bool {
			return r.number(admin, `select count(*) from nodes where `+where, keyID) == 1
		})
	}
	one, behind := rotate()
	if !slices.Equal(behind.Nodes, []string{"far"}) || behind.Sealing || behind.KeyID != one.New || one.Resealed != 0 {
		t.Fatalf("%+v, behind %+v", one, behind)
	}
	r.copyTo(far)
	told("the node knows the key", `$1 = any (keys)`, one.New)
	two, behind := rotate()
	if !slices.Equal(behind.Nodes, []string{"far"}) || !behind.Sealing || two.New != one.New || two.Resealed != 4 {
		t.Fatalf("%+v, behind %+v", two, behind)
	}
	if !strings.Contains(behind.Error(), "far") || !errors.Is(behind, catalog.ErrConflict) {
		t.Error(behind)
	}
	r.copyTo(far)
	told("the node seals with it", `keys[1] = $1`, one.New)
	three, behind := rotate()
	if len(behind.Nodes) > 0 || three.New != one.New || three.Resealed != 0 {
		t.Fatalf("%+v, behind %+v", three, behind)
	}
	r.whole(one.New)
}

// Whatever ended a rotation, the next one goes on with the same key.
func TestRotateKeyset_goesOn(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*rotating, *catalog.Keyset){
		"key added": func(r *rotating, k *catalog.Keyset) { _, err := k.Add(); r.ok(err) },
		"made primary": func(r *rotating, k *catalog.Keyset) {
			id, err := k.Add()
			r.ok(err)
			r.ok(k.MakePrimary(id))
		},
		"in the middle": func(r *rotating, _ *catalog.Keyset) {
			ctx, cancel := context.WithCancel(r.Context())
			_, err := r.cat.RotateKeyset(ctx, "ann", catalog.RotateOptions{Progress: func(done, _ int) {
				if done > 0 {
					cancel()
				}
			}})
			if err == nil {
				r.Error("it went on without its context")
			}
		},
		"all but the seal": func(r *rotating, _ *catalog.Keyset) {
			admin := r.admin()
			r.exec(admin, `create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$`)
			r.exec(admin, `create trigger refuse before update on catalog_seal for each row execute function refuse()`)
			if _, err := r.cat.RotateKeyset(r.Context(), "ann", catalog.RotateOptions{}); err == nil {
				r.Error("it ended without the seal")
			}
			r.exec(admin, `drop trigger refuse on catalog_seal`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setupRotating(t, 3)
			k := r.read(r.path)
			begin(r, k)
			// Each process that is started now finds all that it needs.
			again := r.openAt(r.path)
			r.secrets(again)
			done, err := again.RotateKeyset(t.Context(), "ann", catalog.RotateOptions{})
			r.ok(err)
			if ids := r.read(r.path).KeyIDs(); len(ids) != 2 || ids[0] != done.New || ids[1] != done.Old {
				t.Errorf("rotated %+v, keys %v", done, ids)
			}
			r.whole(done.New)
		})
	}
}

func TestRotateKeyset_refusals(t *testing.T) {
	t.Parallel()
	r := setupRotating(t, 2)
	ctx := t.Context()
	// One at a time.
	admin := r.admin()
	r.exec(admin, `select pg_advisory_lock(hashtextextended('freehold_keyset_rotate', 0))`)
	_, err := r.cat.RotateKeyset(ctx, "ann", catalog.RotateOptions{})
	r.is(err, catalog.ErrConflict)
	r.exec(admin, `select pg_advisory_unlock_all()`)
	// A row that somebody holds is waited for; one that no key opens is named and
	// holds nothing back; a deleted tenant has no secret.
	gone := r.tenant("gone")
	r.exec(admin, `update tenants set state = 'deleted', secret = '' where id = $1`, gone.ID)
	lost := r.tenants[1]
	r.exec(admin, `update tenants set secret = '\x0101020304aabb' where id = $1`, lost.ID)
	r.exec(admin, `begin`)
	r.exec(admin, `select from tenants where id = $1 for update`, r.tenants[0].ID)
	var holding sync.WaitGroup
	var freed atomic.Bool
	holding.Go(func() {
		time.Sleep(time.Second)
		freed.Store(true)
		if _, err := admin.Exec(ctx, `commit`); err != nil {
			t.Error(err)
		}
	})
	done, err := r.cat.RotateKeyset(ctx, "ann", catalog.RotateOptions{})
	if !freed.Load() {
		t.Error("it ended before the row was free")
	}
	holding.Wait()
	r.ok(err)
	if !slices.Equal(done.Unreadable, []string{"tenant " + lost.ID.String()}) || done.Resealed != 3 {
		t.Errorf("rotated %+v", done)
	}
	if _, err := r.cat.Route(ctx, r.tenants[0].ID); err != nil {
		t.Error(err)
	}
}
