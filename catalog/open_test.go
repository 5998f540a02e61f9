package catalog_test

import (
	"bytes"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"freehold/catalog"
	"freehold/migrations/pgtest"
)

func TestMigrate_twiceAndAtOnce(t *testing.T) {
	t.Parallel()
	keys, err := catalog.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	cfg := catalog.Config{URL: pgtest.Catalog(t), Keyset: keys}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, to, err := catalog.Migrate(t.Context(), cfg); err != nil || to < 1 {
				t.Errorf("to %d: %v", to, err)
			}
		})
	}
	all.Wait()
	from, to, err := catalog.Migrate(t.Context(), cfg)
	if err != nil || from != to {
		t.Errorf("migrated again from %d to %d: %v", from, to, err)
	}
	c, err := catalog.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestMigrate_closesCatalogToStrangers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.admin()
	b.exec(admin, `do $$ begin execute format('grant connect on database %I to public', current_database()); end $$`)
	_, _, err := catalog.Migrate(t.Context(), b.cfg)
	b.ok(err)
	if n := b.number(admin, `select has_database_privilege('public', current_database(), 'connect')::int`); n != 0 {
		t.Error("every role can connect to the catalog")
	}
}

func TestOpen_refuses(t *testing.T) {
	t.Parallel()
	b := setup(t)
	other, err := catalog.NewKeyset()
	b.ok(err)
	wrong := b.cfg
	wrong.Keyset = other

	_, err = catalog.Open(t.Context(), wrong)
	b.is(err, catalog.ErrWrongMasterKey)
	_, _, err = catalog.Migrate(t.Context(), wrong)
	b.is(err, catalog.ErrWrongMasterKey)

	_, err = catalog.Open(t.Context(), catalog.Config{WriterConns: -1})
	b.is(err, catalog.ErrInvalid)
	for _, field := range []string{"URL", "Keyset", "WriterConns"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%v doesn't name %s", err, field)
		}
	}

	unsealed := catalog.Config{URL: pgtest.Catalog(t), Keyset: other}
	_, err = catalog.Open(t.Context(), unsealed)
	b.is(err, catalog.ErrNotMigrated)

	away := b.cfg
	away.URL = "postgres://someone:top-secret@127.0.0.1:1/nowhere"
	_, err = catalog.Open(t.Context(), away)
	b.is(err, catalog.ErrUnavailable)
	for _, secret := range []string{"top-secret", "someone", "nowhere"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("%v tells %s", err, secret)
		}
	}
}

// While a newer release is rolled out, a node of the one before may start again.
func TestOpen_otherVersions(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.admin()
	var log bytes.Buffer // Open alone writes it
	cfg := b.cfg
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))

	open := func() error {
		c, err := catalog.Open(t.Context(), cfg)
		if err == nil {
			c.Close()
		}
		return err
	}
	b.ok(open())
	if log.Len() > 0 {
		t.Errorf("its own version: %s", &log)
	}
	b.exec(admin, `insert into freehold_version (version_id, is_applied) values (99999, true)`)
	b.ok(open())
	if line := log.String(); !strings.Contains(line, "level=WARN") || !strings.Contains(line, "version=99999") {
		t.Errorf("a newer version: logged %q", line)
	}
	b.exec(admin, `update freehold_version set is_applied = version_id < 1`)
	b.is(open(), catalog.ErrNotMigrated)
}

// A process that is killed while it writes leaves nothing under the file's name,
// and of several at once one wins.
func TestKeyset_writtenOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "master.json")
	var written atomic.Int64
	var all sync.WaitGroup
	stop := make(chan struct{})
	all.Go(func() { // whoever looks sees a whole file or none
		for {
			if _, err := catalog.ReadKeyset(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			keys, err := catalog.NewKeyset()
			if err != nil {
				t.Error(err)
				return
			}
			if err := keys.Write(path); err == nil {
				written.Add(1)
			} else if !errors.Is(err, fs.ErrExist) {
				t.Error(err)
			}
		})
	}
	writers.Wait()
	close(stop)
	all.Wait()
	if written.Load() != 1 {
		t.Errorf("%d wrote it", written.Load())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestKeyset(t *testing.T) {
	t.Parallel()
	b := &bench{TB: t}
	keys, err := catalog.NewKeyset()
	b.ok(err)
	path := filepath.Join(t.TempDir(), "master.json")
	b.ok(keys.Write(path))
	if err := keys.Write(path); err == nil {
		t.Error("a keyset was overwritten")
	}
	sealed, id, err := keys.Seal([]byte("hush"), "tenant:1")
	b.ok(err)
	if id == 0 || strings.Contains(string(sealed), "hush") {
		t.Errorf("sealed %q with key %d", sealed, id)
	}
	again, err := catalog.ReadKeyset(path)
	b.ok(err)
	plain, err := again.Open(sealed, "tenant:1")
	if err != nil || string(plain) != "hush" {
		t.Errorf("opened %q: %v", plain, err)
	}
	if _, err := again.Open(sealed, "tenant:2"); err == nil {
		t.Error("opened for another tenant")
	}
	b.ok(os.Chmod(path, 0o640))
	if _, err := catalog.ReadKeyset(path); err == nil {
		t.Error("read a keyset that others can read")
	}
	b.ok(os.Chmod(path, 0o600))
	b.ok(os.WriteFile(path, []byte(`{"key": "SENTINEL"}`), 0o600))
	if _, err := catalog.ReadKeyset(path); err == nil || strings.Contains(err.Error(), "SENTINEL") {
		t.Errorf("read no keyset: %v", err)
	}
}
