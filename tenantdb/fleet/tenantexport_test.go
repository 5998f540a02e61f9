package fleet_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/migrations/pgtest"
	"freehold/tenantdb"
	"freehold/tenantdb/archive"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// ownerOf connects to a tenant's database as its owner.
func (b *bench) ownerOf(t catalog.Tenant) *pgx.Conn {
	b.Helper()
	conn := b.super(t.Database)
	_, err := conn.Exec(b.Context(), "set role "+migrations.RoleOwner)
	b.ok(err)
	return conn
}

// stock gives a tenant tables of a product's and a file of so many bytes.
func (b *bench) stock(t catalog.Tenant, store *blob.Store, size int) {
	b.Helper()
	body := make([]byte, size)
	_, _ = rand.Read(body)
	id, sum := uuid.Must(uuid.NewV7()), sha256.Sum256(body)
	b.ok(store.Tenant(t.ID).Put(b.Context(), "files/"+id.String(), bytes.NewReader(body)))
	conn := b.ownerOf(t)
	_, err := conn.Exec(b.Context(), `
insert into freehold.files (id, state, purpose, name, bytes, sha256, api_key) values ($1, 'processed', 'user_data', 'notes.bin', $2, $3, 'k')`, id, size, sum[:])
	b.ok(err)
	_, err = conn.Exec(b.Context(), `
create schema shop;
create table shop.customers (id bigint generated always as identity primary key, name text unique);
create table shop.orders (n serial primary key, customer bigint references shop.customers (id), paid numeric);
insert into shop.customers (name) select 'customer ' || i from generate_series(1, 100) i;
insert into shop.orders (customer, paid) select 1 + i % 100, i / 7.0 from generate_series(1, 1000) i;`)
	b.ok(err)
}

// exportOf reads a tenant's export as whoever downloads it, and checks it against what
// the catalog says of it.
func (b *bench) exportOf(f *fleet.Fleet, e catalog.Export) ([]byte, archive.Manifest) {
	b.Helper()
	r, err := f.OpenExport(b.Context(), e)
	b.ok(err)
	defer r.Close()
	packed, err := io.ReadAll(r)
	b.ok(err)
	if sum := sha256.Sum256(packed); hex.EncodeToString(sum[:]) != e.SHA256 || int64(len(packed)) != e.Bytes {
		b.Errorf("the export of %d bytes isn't the one that is on record: %+v", len(packed), e)
	}
	m, err := archive.Read(b.Context(), bytes.NewReader(packed), nil)
	b.ok(err)
	rows := int64(0)
	for _, t := range m.Tables {
		rows += t.Rows
	}
	if m.Tenant != e.TenantID.String() || rows != e.Rows || len(m.Tables) != e.Tables || e.Files != 1 {
		b.Errorf("in it are %d rows of %d tables of %s; on record is %+v", rows, len(m.Tables), m.Tenant, e)
	}
	return packed, m
}

// sumsOf is what a tenant's tables hold, but for what each has of its own.
func (b *bench) sumsOf(t catalog.Tenant) []string {
	b.Helper()
	conn := b.super(t.Database)
	var sums []string
	for _, table := range []string{"shop.customers", "shop.orders", "freehold.files"} {
		sums = append(sums, table+one[string](b, conn, "select count(*)::text || ' ' || sum(hashtextextended(t::text, 0))::text from "+table+" t"))
	}
	return sums
}

// What a tenant takes along is all there is, can be brought into another database, and
// is gone after a day.
func TestTenantExport(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.store()
	f := b.newFleet(fleet.Config{Blob: store})
	acme, _, err := f.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	b.stock(acme, store, 1000)
	b.ok(f.Suspend(t.Context(), acme.ID)) // who can't be served can leave
	e, err := f.Export(t.Context(), acme.ID, fleet.ExportOptions{Actor: "operator:ann"})
	b.ok(err)
	if e.State != catalog.ExportDone || time.Until(*e.ExpiresAt) > fleet.ExportLife {
		t.Fatalf("exported: %+v", e)
	}
	packed, m := b.exportOf(f, e)
	if !slices.ContainsFunc(m.Entries, func(e archive.Entry) bool { return e.Path == "schema.sql" }) || m.Slug != "acme" || m.Postgres < 15 {
		t.Errorf("manifest: %+v", m)
	}
	address, err := f.ExportURL(t.Context(), e)
	b.ok(err)
	if !bytes.Equal(b.fetch(address), packed) {
		t.Error("its address shows something else")
	}

	copied, _, err := f.Create(t.Context(), catalog.TenantSpec{Slug: "copied"})
	b.ok(err)
	_, err = archive.Import(t.Context(), b.ownerOf(copied), bytes.NewReader(packed), store.Tenant(copied.ID).Put)
	b.ok(err)
	if was, is := b.sumsOf(acme), b.sumsOf(copied); !slices.Equal(was, is) {
		t.Errorf("exported %q\nimported %q", was, is)
	}

	b.ok(f.ExpireExports(t.Context()))
	b.exportOf(f, e) // not yet
	_, err = b.catalogDB().Exec(t.Context(), `update exports set expires_at = now()`)
	b.ok(err)
	for range 2 {
		b.ok(f.ExpireExports(t.Context()))
	}
	e, err = b.cat.Export(t.Context(), acme.ID, e.ID)
	b.ok(err)
	if _, err := f.OpenExport(t.Context(), e); !errors.Is(err, catalog.ErrConflict) || e.State != catalog.ExportExpired || e.Key != "" {
		t.Errorf("expired: %+v, opened: %v", e, err)
	}
	b.noExports(store, acme)
}

func (b *bench) fetch(address string) []byte {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, address, nil)
	b.ok(err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	b.ok(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	b.ok(err)
	if resp.StatusCode != http.StatusOK {
		b.Fatalf("%d %s", resp.StatusCode, body)
	}
	return body
}

func (b *bench) noExports(store *blob.Store, t catalog.Tenant) {
	b.Helper()
	if total, err := store.Tenant(t.ID).Total(b.Context(), "exports/"); err != nil || total.Objects > 0 {
		b.Errorf("left of %s's exports: %+v %v", t.Slug, total, err)
	}
}

// Killed with -9 at any point, an export is there in the end, once and whole.
func TestTenantExportSurvivesKill(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, cfg := b.bucket()
	f := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	o := b.orders(cfg)
	points := []string{"export/write:files", "export/done:made"}
	if pgtest.Long() {
		points = append(fleet.Points(catalog.KindExport), "export/write:rows", "export/write:files", "export/write:stored")
	}
	atOnce(points, func(point string) {
		made, _, err := f.Create(t.Context(), catalog.TenantSpec{Slug: slugFor(point)})
		if err != nil {
			t.Error(err)
			return
		}
		// More than the store takes in one part, so that a part is left.
		b.stock(made, store, 9<<20)
		o := o
		o.Export, o.DieAt = made.Slug, point
		b.dies(o)
	})
	if t.Failed() {
		return
	}
	b.work(f)
	b.settled(60 * time.Second)
	for _, point := range points {
		made, err := b.cat.TenantBySlug(t.Context(), slugFor(point))
		b.ok(err)
		list, err := b.cat.Exports(t.Context(), made.ID, "", 10)
		b.ok(err)
		if len(list) != 1 || list[0].State != catalog.ExportDone {
			t.Errorf("%s: %+v", point, list)
			continue
		}
		b.exportOf(f, list[0])
		if total, err := store.Tenant(made.ID).Total(t.Context(), "exports/"); err != nil || total.Objects != 1 {
			t.Errorf("%s: %+v %v", point, total, err)
		}
	}
	b.nothingLeft(store)
}

func slugFor(point string) string { return strings.ReplaceAll(slugOf(point), "_", "-") }

// While the store is away an export waits; cancelled, it leaves nothing and says so.
func TestTenantExportFails(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store, away := b.unsteady()
	f := b.newFleet(fleet.Config{Blob: store})
	acme, _, err := f.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	b.stock(acme, store, 10)
	away.Store(true)
	e, err := f.Export(t.Context(), acme.ID, fleet.ExportOptions{Actor: "key:k"})
	if !errors.Is(err, fleet.ErrStore) {
		t.Errorf("exported without a store: %v", err)
	}
	var busy *catalog.Busy
	if _, err := f.BeginExport(t.Context(), acme.ID, fleet.ExportOptions{Actor: "key:k"}); !errors.As(err, &busy) || busy.Operation.ID != e.ID {
		t.Errorf("a second one: %v", err)
	}
	away.Store(false)
	// Half of it is there, and its worker is told to stop.
	stuck := make(chan struct{})
	other := b.newFleet(fleet.Config{Blob: store, Heartbeat: beat})
	other.Crash(func(point string) {
		if point == "export/write:stored" {
			close(stuck)
			time.Sleep(3 * beat)
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- other.Do(context.WithoutCancel(t.Context()), e.ID) }()
	<-stuck
	o, err := f.CancelOperation(t.Context(), e.ID, "ann")
	b.ok(err)
	if err := <-ended; !errors.Is(err, catalog.ErrCancelled) || o.State != catalog.OperationCancelled {
		t.Errorf("cancelled: %v, operation %s", err, o.State)
	}
	if e, err = b.cat.Export(t.Context(), acme.ID, e.ID); err != nil || e.State != catalog.ExportFailed || e.Error != "The export was cancelled." {
		t.Errorf("cancelled: %+v %v", e, err)
	}
	b.noExports(store, acme)
	if _, err := f.OpenExport(t.Context(), e); !errors.Is(err, catalog.ErrConflict) {
		t.Errorf("opened: %v", err)
	}
	none := b.newFleet(fleet.Config{})
	if _, err := none.BeginExport(t.Context(), acme.ID, fleet.ExportOptions{Actor: "key:k"}); !errors.Is(err, fleet.ErrStore) {
		t.Errorf("without a store: %v", err)
	}
	// A table that others hold is waited for, not for ever, and then tried again.
	if err := fleet.ExportError(t.Context(), &tenantdb.StateError{State: "55P03"}); !errors.Is(err, tenantdb.ErrUnavailable) {
		t.Errorf("locked tables: %v", err)
	}
}
