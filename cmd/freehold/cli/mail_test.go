package cli_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func TestMailCommands(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	owed := func(o string, args ...string) (list []struct{ ID, Tenant, State string }) {
		t.Helper()
		out, _ := b.run("", 0, append([]string{"mail", "list", "-o", o}, args...)...)
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return list
	}
	if list := owed("json"); list == nil || len(list) != 0 {
		t.Errorf("owed to nobody: %v", list)
	}
	p, err := app.Open(t.Context(), app.FromEnv(os.Getenv), app.NeedCatalog, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	cat := p.Catalog
	made, err := cat.CreateTenant(t.Context(), catalog.TenantSpec{Slug: "acme", Email: "acme@example.com"},
		catalog.Onboarding{Taker: catalog.Taker{Worker: "test", Lease: time.Minute}, Steps: []string{"register"}, Latest: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.ActivateTenant(t.Context(), made.Tenant.ID); err != nil {
		t.Fatal(err)
	}
	list := owed("json", "--tenant", "acme", "--state", "waiting")
	if len(list) != 1 || list[0].Tenant != "acme" {
		t.Fatalf("owed: %+v", list)
	}
	id := list[0].ID
	if _, err := cat.MailFailed(t.Context(), id, "mail server: connect: connection refused", true); err != nil {
		t.Fatal(err)
	}
	out, _ := b.run("", 0, "mail", "list")
	for _, want := range []string{"STATE", id, "acme@example.com", "given_up", "connection refused"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if out, _ := b.run("", 0, "mail", "retry", id); out != "welcome to acme@example.com is due: the next worker sends it\n" {
		t.Errorf("retry: %q", out)
	}
	if list := owed("json", "--state", "waiting"); len(list) != 1 {
		t.Errorf("after the retry: %+v", list)
	}
	if err := cat.MailSent(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"mail retry " + id, 1, "mail " + id + ": retry mail: it is sent: state forbids it"},
		{"mail retry x", 1, "mail x: not found"},
		{"mail retry", 2, "usage: accepts 1 arg(s), received 0"},
		{"mail list --state happy", 2, "invalid: state: want waiting, sent, given_up, cancelled"},
		{"mail list --limit -1", 2, "usage: --limit is not negative"},
		{"mail list --after x", 2, "invalid: after: not the id of a mail"},
	} {
		if _, err := b.run("", c.status, strings.Fields(c.args)...); !strings.HasPrefix(err, "freehold: "+c.want) {
			t.Errorf("%s: %q", c.args, err)
		}
	}
}
