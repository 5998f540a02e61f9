package fleet_test

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/blob"
	"freehold/tenantdb/fleet"
)

// Whom the tests' tenant names, where nothing of it may be left.
const (
	personName  = "Zweigert & Söhne"
	personEmail = "pat.quimby@zweigert.example"
	personLabel = "quimby-account"
)

// person onboards a tenant that has everything somewhere: a name, a label, keys, a
// configuration, mail, objects, backups and predictions.
func (b *bench) person(f *fleet.Fleet, store *blob.Store, slug string) catalog.Tenant {
	b.Helper()
	t, token, err := f.Create(b.Context(), catalog.TenantSpec{
		Slug: slug, Name: personName, Email: personEmail, Labels: map[string]string{"owner": personLabel},
		RequestKey: "order of " + personEmail + " " + slug, RequestHash: []byte(strings.Repeat("h", 32)), Actor: "root@test",
	})
	b.ok(err)
	if token == "" {
		b.Fatal("no key")
	}
	prompt := "You work for " + personName
	_, err = f.PatchConfig(b.Context(), t.ID, catalog.ConfigPatch{SystemPromptOverride: &prompt})
	b.ok(err)
	for _, key := range []string{"files/a", "models/b", "backups/2026-11-01/base", "backups/2026-11-02/base"} {
		b.ok(store.Tenant(t.ID).Put(b.Context(), key, strings.NewReader(personName)))
	}
	// Two days, two models; what isn't settled costs nothing.
	b.inside(t.Database, `
		insert into freehold.predictions (id, request_id, api_key, kind, model, state, input, prompt_tokens, completion_tokens, created_at)
		select gen_random_uuid(), 'r', 'k', 'chat', n.model, n.state, to_json($1::text), n.prompt, n.completion, n.at
		  from (values ('chat-1', 'succeeded', 100, 10, timestamptz '2026-10-31 23:59:59+00'),
		               ('chat-1', 'succeeded', 200, 20, timestamptz '2026-11-01 00:00:00+00'),
		               ('chat-1', 'cancelled', 300, 30, timestamptz '2026-11-02 12:00:00+00'),
		               ('embed-1', 'succeeded', 7, 0, timestamptz '2026-11-02 12:00:00+00'),
		               ('chat-1', 'in_progress', 5000, 5000, timestamptz '2026-11-02 13:00:00+00')) n (model, state, prompt, completion, at)`,
		personEmail)
	b.inside(t.Database, `
		insert into freehold.usage_ledger (id, request_id, api_key, kind, model, state, prompt_tokens, completion_tokens, cost, at)
		select p.id, p.request_id, p.api_key, p.kind, p.model, p.state, p.prompt_tokens, p.completion_tokens, 2 * p.prompt_tokens, p.created_at
		  from freehold.predictions p where p.state <> 'in_progress'`)
	_, err = b.catalogDB().Exec(b.Context(), "insert into catalog_backups (key, bytes, seq) values ('k' || $1, 1, 1)", slug)
	b.ok(err)
	t, err = b.cat.Tenant(b.Context(), t.ID)
	b.ok(err)
	return t
}

// inside runs a statement as the superuser, who isn't there any more afterwards.
func (b *bench) inside(database, sql string, args ...any) {
	b.Helper()
	conn := b.super(database)
	_, err := conn.Exec(b.Context(), sql, args...)
	b.ok(err)
	b.ok(conn.Close(b.Context()))
}

// mentions finds rows of the catalog, River's tables included, that hold the text.
func (b *bench) mentions(text string) (where []string) {
	b.Helper()
	conn := b.catalogDB()
	rows, _ := conn.Query(b.Context(), `
		select table_schema, table_name from information_schema.tables
		 where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')`)
	type table struct{ Schema, Name string }
	tables, err := pgx.CollectRows(rows, pgx.RowToStructByPos[table])
	b.ok(err)
	for _, t := range tables {
		name := pgx.Identifier{t.Schema, t.Name}.Sanitize()
		if n := one[int](b, conn, "select count(*)::int from "+name+" x where strpos(lower(x::text), lower($1)) > 0", text); n > 0 {
			where = append(where, fmt.Sprintf("%s (%d)", name, n))
		}
	}
	return where
}

// G15: a deleted tenant leaves its receipt, invoice figures without content, and
// operator audit.
func TestG15_DeletedTenantLeavesOnlyItsReceipt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	store := b.store()
	f := b.newFleet(fleet.Config{Blob: store})
	acme, globex := b.person(f, store, "acme"), b.create("globex")
	for _, secret := range []string{personName, personEmail, personLabel} {
		if len(b.mentions(secret)) == 0 {
			t.Fatalf("%q is nowhere before: the test looks in the wrong places", secret)
		}
	}
	b.ok(b.cat.AppendAudit(t.Context(), "root@test", "tenant.delete", acme.ID, map[string]any{"slug": acme.Slug}))
	kept := b.keeps(acme)
	op, err := f.Delete(t.Context(), acme.ID, fleet.DeleteOptions{Now: true, Actor: "root@test"})
	b.ok(err)
	b.ok(f.Do(t.Context(), op.ID))

	super := b.super("postgres")
	for what, sql := range map[string]string{
		"database": "select count(*)::int from pg_database where datname = $1",
		"role":     "select count(*)::int from pg_roles where rolname = $1",
	} {
		if n := one[int](b, super, sql, acme.Database); n != 0 {
			t.Errorf("its %s is still there", what)
		}
	}
	if n := one[int](b, super, "select count(*)::int from pg_database where datname = $1", kept); n != 0 {
		t.Error("the database that it had left is still there")
	}
	if left, err := store.Tenant(acme.ID).Total(t.Context(), ""); err != nil || left.Objects != 0 {
		t.Errorf("%d objects are still there, %v", left.Objects, err)
	}
	conn := b.catalogDB()
	for _, table := range []string{"api_keys", "tenant_config", "mail_outbox", "kept_databases", "tenant_backups", "exports"} {
		if n := one[int](b, conn, "select count(*)::int from "+table+" where tenant = $1", acme.ID); n != 0 {
			t.Errorf("%s has %d rows", table, n)
		}
	}
	if n := one[int](b, conn, "select length(secret) from tenants where id = $1", acme.ID); n != 0 {
		t.Errorf("a sealed secret of %d bytes", n)
	}
	for _, secret := range []string{personName, personEmail, personLabel} {
		if where := b.mentions(secret); len(where) > 0 {
			t.Errorf("%q is still in %v", secret, where)
		}
	}
	if n := one[int](b, conn, "select count(*)::int from operator_audit where tenant = $1", acme.ID); n != 1 {
		t.Errorf("operator audit has %d rows", n)
	}
	now, err := b.cat.Tenant(t.Context(), acme.ID)
	b.ok(err)
	if now.State != catalog.Deleted || now.Slug != "acme" {
		t.Errorf("%+v", now)
	}
	b.receipt(f, acme, op, 1)
	// Its neighbour has all that it had, and its slug is anybody's.
	b.whole(globex, nil)
	again, _, err := f.Create(t.Context(), catalog.TenantSpec{Slug: "acme"})
	b.ok(err)
	if again.ID == acme.ID {
		t.Error("the deleted tenant is back")
	}
	if _, r, err := f.Receipt(t.Context(), "acme"); err != nil || r.Tenant != acme.ID.String() {
		t.Errorf("receipt by slug: %v %v", r.Tenant, err)
	}
	if _, _, err := f.Receipt(t.Context(), again.ID.String()); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("receipt of a tenant that lives: %v", err)
	}
}

// keeps gives a tenant a database that it has left.
func (b *bench) keeps(t catalog.Tenant) (name string) {
	b.Helper()
	name = "freehold_kept_" + t.Database[2:] + "_000000000000"
	id, err := b.cat.CatalogID(b.Context())
	b.ok(err)
	conn := b.super("postgres")
	for _, sql := range []string{
		"create database " + name + " template template0 owner freehold_owner allow_connections false",
		"comment on database " + name + " is 'freehold " + id + "'",
	} {
		_, err := conn.Exec(b.Context(), sql)
		b.ok(err)
	}
	b.ok(b.cat.KeepDatabase(b.Context(), catalog.KeptDatabase{
		TenantID: t.ID, Server: t.Server, Database: name, Why: catalog.KeptMoved, Operation: uuid.NewString(),
	}))
	return name
}

// receipt checks what the receipt of a person's deletion says, and its signature.
func (b *bench) receipt(f *fleet.Fleet, acme catalog.Tenant, op catalog.Operation, kept int64) {
	b.Helper()
	signed, r, err := f.Receipt(b.Context(), acme.ID.String())
	b.ok(err)
	if r.Tenant != acme.ID.String() || r.Slug != "acme" || r.Server != "pg-1" || r.RequestedBy != "root@test" ||
		r.Operation != op.ID || !r.RequestedAt.Equal(op.CreatedAt) || time.Since(r.DeletedAt) > time.Minute {
		b.Errorf("receipt %+v", r)
	}
	want := map[string]int64{
		"sessions": 0, "database": 1, "kept_databases": kept, "role": 1, "objects": 3, "backups": 2, "api_keys": 1, "configuration": 1, "mail": 1,
		"secret": 1, "personal_data": 1,
	}
	for _, d := range r.Destroyed {
		if n, known := want[d.What]; !known || n != d.Count || d.VerifiedAt.IsZero() {
			b.Errorf("destroyed %+v, want %d", d, n)
		}
		delete(want, d.What)
		if d.What == "database" && (d.Bytes == 0 || d.Name != acme.Database) || d.What == "backups" && d.Bytes != 2*int64(len(personName)) {
			b.Errorf("destroyed %+v", d)
		}
	}
	if len(want) > 0 {
		b.Errorf("not in the receipt: %v", want)
	}
	beyond := ""
	for _, w := range r.BeyondReach {
		beyond += w.What + "\n"
		if backup := strings.HasPrefix(w.What, "backups of the catalog"); backup != (w.Until != nil) || backup && w.Until.Before(r.DeletedAt.AddDate(0, 0, 90)) {
			b.Errorf("beyond reach: %+v", w)
		}
	}
	if !strings.Contains(beyond, "WAL") || !strings.Contains(beyond, "logs") || !strings.Contains(beyond, "backups of the catalog") || r.BucketVersioning == "" {
		b.Errorf("beyond reach: %s, versioning %q", beyond, r.BucketVersioning)
	}
	bill := []fleet.BillLine{
		{Month: "2026-10", Usage: catalog.Usage{Model: "chat-1", Requests: 1, PromptTokens: 100, CompletionTokens: 10, Cost: 200}},
		{Month: "2026-11", Usage: catalog.Usage{Model: "chat-1", Requests: 2, PromptTokens: 500, CompletionTokens: 50, Cost: 1000}},
		{Month: "2026-11", Usage: catalog.Usage{Model: "embed-1", Requests: 1, PromptTokens: 7, Cost: 14}},
	}
	if !slices.Equal(r.Bill, bill) {
		b.Errorf("bill %+v", r.Bill)
	}
	// Who has the public key needs nothing else; what was changed doesn't pass.
	verify := func(document string, signature []byte, public ed25519.PublicKey) error {
		_, err := fleet.VerifyReceipt([]byte(document), signature, public)
		return err
	}
	b.ok(verify(signed.Document, signed.Signature, signed.PublicKey))
	if !slices.Equal(r.PublicKey, signed.PublicKey) || r.KeyID != signed.KeyID {
		b.Error("the document names another key")
	}
	other, private, err := ed25519.GenerateKey(nil)
	b.ok(err)
	for what, err := range map[string]error{
		"a changed figure":    verify(strings.Replace(signed.Document, `"requests":2`, `"requests":1`, 1), signed.Signature, signed.PublicKey),
		"a changed signature": verify(signed.Document, append([]byte{signed.Signature[0] ^ 1}, signed.Signature[1:]...), signed.PublicKey),
		"another key":         verify(signed.Document, signed.Signature, other),
		"somebody's own":      verify(signed.Document, ed25519.Sign(private, []byte(signed.Document)), other),
		"no key":              verify(signed.Document, signed.Signature, nil),
		"no signature":        verify(signed.Document, nil, signed.PublicKey),
	} {
		if !errors.Is(err, catalog.ErrSignature) {
			b.Errorf("%s: %v", what, err)
		}
	}
	text, err := json.Marshal(signed)
	b.ok(err)
	for _, secret := range []string{personName, personEmail, personLabel} {
		if strings.Contains(string(text), secret) {
			b.Errorf("the receipt holds %q", secret)
		}
	}
}
