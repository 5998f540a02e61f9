package admin_test

import (
	"strings"
	"testing"

	"freehold/catalog"
)

// filled has every parameter of a route name something that isn't there.
func filled(path string) string {
	return strings.NewReplacer(":slug", "nobody", ":id", "x", ":name", "x", "+", "x").Replace(path)
}

// Each role may use the routes that are its own, on every route there is.
func TestEveryRoleOnEveryRoute(t *testing.T) {
	t.Parallel()
	b := setup(t)
	tokens := map[string]string{}
	for _, role := range []string{catalog.RoleViewer, catalog.RoleOperator, catalog.RoleOwner} {
		_, token, err := b.Catalog.CreateOperator(t.Context(), role, role, nil)
		b.OK(err)
		tokens[role] = token
	}
	least := func(method, path string) string {
		switch {
		case strings.HasPrefix(path, "/admin/v1/tokens"), method == "POST" && path == "/admin/v1/rollouts":
			return catalog.RoleOwner
		case method == "GET" && path == "/admin/v1/tenants/:slug/exports/:id": // where all of a tenant's data lies
			return catalog.RoleOperator
		case method == "GET":
			return catalog.RoleViewer
		default:
			return catalog.RoleOperator
		}
	}
	may := map[string]string{
		catalog.RoleViewer: "viewer", catalog.RoleOperator: "viewer operator", catalog.RoleOwner: "viewer operator owner",
	}
	tried := 0
	for _, rt := range b.door.Routes() {
		if rt.Scope == "" {
			continue
		}
		want := least(rt.Method, rt.Path)
		if rt.Scope != want {
			t.Errorf("%s %s: scope %q, want %q", rt.Method, rt.Path, rt.Scope, want)
		}
		for role, token := range tokens {
			tried++
			a := b.client.With(token).Do(rt.Method, filled(rt.Path), "")
			allowed := strings.Contains(may[role], want)
			if !allowed {
				a.Refused(403, "insufficient_scope", "")
				if !strings.Contains(a.Body, "role is "+role+"; the route needs "+want) {
					t.Errorf("refused with %s", a.Body)
				}
			}
			if allowed && (a.Status == 401 || a.Status == 403 || a.Status >= 500) {
				t.Errorf("%s on %s %s: %d %s", role, rt.Method, rt.Path, a.Status, a.Body)
			}
		}
	}
	if tried < 3*30 {
		t.Errorf("%d tried", tried)
	}
	for _, token := range tokens {
		if strings.Contains(b.Logs.String(), token) {
			t.Error("a token is in the log")
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	type made struct {
		Operator struct{ Name, Role, ID string }
		Token    string
	}
	var ann, bob made
	c.Do("POST", "/admin/v1/tokens", `{"name":"ann","role":"owner"}`).Into(201, &ann)
	b.client.With(ann.Token).Do("POST", "/admin/v1/tokens", `{"name":"bob","role":"viewer","expires_at":"2999-01-01T00:00:00Z"}`).Into(201, &bob)
	if ann.Operator.Role != "owner" || !strings.HasPrefix(bob.Token, "fho_"+bob.Operator.ID) {
		t.Errorf("made %+v and %+v", ann.Operator, bob.Operator)
	}
	c.Do("POST", "/admin/v1/tokens", `{"name":"bob","role":"owner"}`).Refused(409, "conflict", "")
	for body, param := range map[string]string{
		`{"name":"Bob","role":"owner"}`: "name", `{"name":"eve","role":"king"}`: "role", `{"role":"owner"}`: "name", `{"name":"eve"}`: "role",
		`{"name":"eve","role":"owner","expires_at":"2000-01-01T00:00:00Z"}`: "expires_at", `{"name":"admin-token","role":"owner"}`: "name",
	} {
		c.Do("POST", "/admin/v1/tokens", body).Refused(400, "invalid_request", param)
	}
	var operators list[map[string]any]
	a := c.Do("GET", "/admin/v1/tokens", "")
	a.Into(200, &operators)
	if len(operators.Data) != 2 || operators.Data[1]["name"] != "bob" || strings.Contains(a.Body, "hash") || strings.Contains(a.Body, "fho_") {
		t.Errorf("listed %s", a.Body)
	}

	var rotated made
	c.Do("POST", "/admin/v1/tokens/bob/rotate", "").Into(200, &rotated)
	b.client.With(bob.Token).Do("GET", "/admin/v1/nodes", "").Refused(401, "invalid_api_key", "")
	b.client.With(rotated.Token).Do("GET", "/admin/v1/nodes", "").Into(200, new(map[string]any))
	c.Do("DELETE", "/admin/v1/tokens/bob", "").Into(200, new(map[string]any))
	c.Do("DELETE", "/admin/v1/tokens/bob", "").Into(200, new(map[string]any))
	b.client.With(rotated.Token).Do("GET", "/admin/v1/nodes", "").Refused(401, "invalid_api_key", "")
	c.Do("POST", "/admin/v1/tokens/bob/rotate", "").Refused(409, "conflict", "")
	c.Do("DELETE", "/admin/v1/tokens/nobody", "").Refused(404, "not_found", "")
	c.Do("POST", "/admin/v1/tokens/nobody/rotate", "").Refused(404, "not_found", "")

	// The last owner may go: the node's own token stays.
	c.Do("DELETE", "/admin/v1/tokens/ann", "").Into(200, new(map[string]any))
	c.Do("GET", "/admin/v1/tokens", "").Into(200, &operators)

	details := b.audited("token.create", "token.rotate", "token.revoke", "token.revoke", "token.revoke")
	for _, token := range []string{ann.Token, bob.Token, rotated.Token} {
		if strings.Contains(details, token[20:]) || strings.Contains(b.Logs.String(), token[20:]) {
			t.Error("a token is in the audit or the log")
		}
	}
	var rows list[map[string]any]
	c.Do("GET", "/admin/v1/audit?actor=ann", "").Into(200, &rows)
	if len(rows.Data) != 1 || rows.Data[0]["action"] != "token.create" {
		t.Errorf("ann did %v", rows.Data)
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	b.Tenant("acme")
	for range 3 {
		c.Do("PATCH", "/admin/v1/tenants/acme/config", `{"monthly_token_limit":5}`).Into(200, new(map[string]any))
	}
	c.Do("DELETE", "/admin/v1/engines/nope", "").Refused(404, "not_found", "")
	c.Do("POST", "/admin/v1/engines", `{"name":"e","kind":"builtin"}`).Into(201, new(map[string]any))
	var check catalog.AuditCheck
	c.Do("GET", "/admin/v1/audit/verify", "").Into(200, &check)
	if !check.OK || check.Rows < 4 {
		t.Errorf("verified %+v", check)
	}
	page := func(query string) (seqs []int64, more bool) {
		t.Helper()
		var rows list[catalog.AuditRow]
		c.Do("GET", "/admin/v1/audit"+query, "").Into(200, &rows)
		for _, r := range rows.Data {
			seqs = append(seqs, r.Seq)
		}
		return seqs, rows.HasMore
	}
	all, more := page("?actor=admin-token&order=asc")
	if len(all) != 4 || more || all[0] > all[3] {
		t.Fatalf("rows %v, more %v", all, more)
	}
	if got, more := page("?actor=admin-token&limit=1"); len(got) != 1 || got[0] != all[3] || !more {
		t.Errorf("the newest: %v, more %v", got, more)
	}
	if got, _ := page("?action=config.set&tenant=acme"); len(got) != 3 {
		t.Errorf("of acme: %v", got)
	}
	if got, _ := page("?tenant=globex"); len(got) != 0 {
		t.Errorf("of nobody: %v", got)
	}
	c.Do("GET", "/admin/v1/audit?after=x", "").Refused(400, "invalid_request", "after")
	c.Do("GET", "/admin/v1/audit?order=up", "").Refused(400, "invalid_request", "order")
	c.Do("GET", "/admin/v1/audit?limit=0", "").Refused(400, "invalid_request", "limit")
}

// While the catalog is away nobody's own token can be looked up; the one in the
// node's file still lets somebody see why.
func TestTokensWithoutCatalog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, token, err := b.Catalog.CreateOperator(t.Context(), "ann", catalog.RoleOwner, nil)
	b.OK(err)
	b.Catalog.Close()
	b.client.With(token).Do("GET", "/admin/v1/router", "").Refused(503, "database_unavailable", "")
	b.client.Do("GET", "/admin/v1/router", "").Into(200, new(map[string]any))
	b.client.With("fho_mistyped").Do("GET", "/admin/v1/router", "").Refused(401, "invalid_api_key", "")
}
