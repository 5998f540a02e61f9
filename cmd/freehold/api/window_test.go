package api_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/cmd/freehold/rest/resttest"
	"freehold/migrations"
)

// schema writes that acme's database has this version, and waits until the node
// knows it.
func (b *bench) schema(conn *pgx.Conn, version, needs int64) {
	b.Helper()
	var epoch int64
	b.OK(conn.QueryRow(b.Context(), `
		update tenants set schema_version = $2, schema_needs = $3, epoch = catalog_tick(false) where id = $1 returning epoch`,
		b.acme.ID, version, needs).Scan(&epoch))
	b.Until("the node knows the schema", func() bool { return b.Cache.Seen() >= epoch })
}

// A tenant whose schema this binary doesn't serve is refused on every route, whatever
// the request holds: no handler runs, so nobody is asked for anything.
func TestEveryRouteWaitsForTheSchema(t *testing.T) {
	t.Parallel()
	b := setup(t)
	latest, err := migrations.Tenant().Latest()
	b.OK(err)
	conn := b.catalog()
	refused := func(a resttest.Answer, what string) {
		t.Helper()
		a.Refused(503, "tenant_upgrading", "")
		if a.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", what)
		}
	}
	asked := b.Engine.Calls.Load()
	for _, outside := range []struct{ version, needs int64 }{{latest + 2, latest + 1}, {latest + 1, 0}, {0, 0}} {
		b.schema(conn, outside.version, outside.needs)
		for _, rt := range b.door.Routes() {
			if public[rt.Path] {
				continue
			}
			bodies := []string{""}
			if rt.Method == "POST" {
				bodies = []string{hello, `{"no`, `[]`, `{"unheard_of": 1}`}
			}
			for _, body := range bodies {
				refused(b.client.Do(rt.Method, concrete(rt.Path), body), rt.Method+" "+rt.Path)
			}
			if outside.version > 0 {
				continue
			}
			// Who may not call isn't told of it.
			b.client.With("").Do(rt.Method, concrete(rt.Path), "").Refused(401, "invalid_api_key", "")
			if !strings.Contains(rt.Scope, catalog.ScopeModels) {
				b.client.With(b.Key(b.acme, catalog.ScopeModels)).Do(rt.Method, concrete(rt.Path), "").Refused(403, "insufficient_scope", "")
			}
		}
	}
	if n := b.Engine.Calls.Load() - asked; n != 0 {
		t.Errorf("an engine was asked %d times", n)
	}
	b.schema(conn, latest+2, latest)
	if a := b.client.Do("POST", "/v1/chat/completions", hello); a.Status != 200 {
		t.Errorf("a later schema that needs no later binary: %d %s", a.Status, a.Body)
	}
}
