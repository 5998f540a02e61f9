package cli_test

import (
	"slices"
	"strings"
	"testing"

	"freehold/catalog"
)

// What tenants, keys and models may is set and shown, each change audited.
func TestPolicyCommands(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 1, 1)

	var c catalog.TenantConfig
	w.into(&c, "config", "set", "real-00", "pii_allow=help@acme.example, Main Street", "pii_deny=Project X", "prediction_log_retention_days=0")
	if !slices.Equal(c.PIIAllow, []string{"help@acme.example", "Main Street"}) || !slices.Equal(c.PIIDeny, []string{"Project X"}) || c.PredictionLogRetentionDays != 0 {
		t.Errorf("set %+v", c)
	}
	w.run("", 0, "config", "set", "real-00", "pii_deny=")
	w.into(&c, "config", "get", "real-00")
	if len(c.PIIAllow) != 2 || len(c.PIIDeny) != 0 {
		t.Errorf("emptied one of %+v", c)
	}

	var made struct {
		Key   catalog.Key
		Token string
	}
	w.into(&made, "key", "create", "real-00", "--scope", "inference", "--allow-model", "gpt-*,m", "--monthly-tokens", "0", "--concurrent", "3")
	if k := made.Key; !slices.Equal(k.AllowedModels, []string{"gpt-*", "m"}) || *k.MonthlyTokenLimit != 0 || *k.ConcurrentRequestLimit != 3 || made.Token == "" {
		t.Errorf("made %+v", k)
	}
	var plain struct{ Key catalog.Key }
	w.into(&plain, "key", "create", "real-00")
	if k := plain.Key; k.AllowedModels != nil || k.MonthlyTokenLimit != nil || k.ConcurrentRequestLimit != nil {
		t.Errorf("without limits: %+v", k)
	}
	var k catalog.Key
	w.into(&k, "key", "set", "real-00", made.Key.ID, "allowed_models=", "monthly_token_limit=50", "concurrent_request_limit=", "name=ci")
	if k.AllowedModels != nil || *k.MonthlyTokenLimit != 50 || k.ConcurrentRequestLimit != nil || k.Name != "ci" {
		t.Errorf("set %+v", k)
	}
	for _, want := range []string{"all", "50", "ci"} {
		if out, _ := w.run("", 0, "key", "list", "real-00"); !strings.Contains(out, want) {
			t.Errorf("list lacks %q:\n%s", want, out)
		}
	}

	w.run("", 0, "engine", "add", "one", "--kind", "builtin")
	w.run("", 0, "engine", "add", "two", "--kind", "builtin")
	var m catalog.Model
	w.into(&m, "model", "add", "big", "--engine", "one", "--upstream", "b-1", "--fallback", "two", "--fallback", "two=b-0",
		"--max-output-tokens", "100", "--token-overhead", "5", "--message-overhead", "6", "--part-tokens", "7")
	if !slices.Equal(m.Fallbacks, []catalog.Fallback{{Engine: "two", Upstream: "b-1"}, {Engine: "two", Upstream: "b-0"}}) ||
		m.MaxOutputTokens != 100 || m.TokenOverhead != 5 || m.MessageOverhead != 6 || m.PartTokens != 7 {
		t.Errorf("added %+v", m)
	}
	w.into(&m, "model", "alias", "gpt-4o-mini", "big")
	if !slices.Equal(m.Aliases, []string{"gpt-4o-mini"}) {
		t.Errorf("aliases of %+v", m)
	}
	if out, _ := w.run("", 0, "model", "list"); !strings.Contains(out, "gpt-4o-mini") || !strings.Contains(out, "one=b-1,two=b-1,two=b-0") {
		t.Errorf("list:\n%s", out)
	}
	w.into(&m, "model", "set", "big", "--input-price", "0.15", "--fallback", "")
	if m.InputPrice != "0.15" || len(m.Fallbacks) != 0 || m.MaxOutputTokens != 100 || m.Upstream != "b-1" {
		t.Errorf("set %+v", m)
	}
	w.into(&m, "model", "set", "big", "--fallback", "two", "--trainer", "builtin")
	if m.Trainer != "builtin" || len(m.Fallbacks) != 1 {
		t.Errorf("with a trainer %+v", m)
	}
	if out, _ := w.run("", 0, "model", "list"); !strings.Contains(out, "builtin") {
		t.Errorf("list:\n%s", out)
	}
	// Neither table is wider than a terminal.
	for _, list := range [][]string{{"model", "list"}, {"key", "list", "real-00"}} {
		out, _ := w.run("", 0, list...)
		for line := range strings.Lines(out) {
			if len(line) > 101 {
				t.Errorf("%s: %d wide: %s", list[0], len(line)-1, line)
			}
		}
	}
	for _, bad := range []struct {
		args   string
		status int
		want   string
	}{
		{"model set big", 2, "usage: say what is to change: freehold model set --help"},
		{"model set nope --input-price 1", 1, "model nope: not found"},
		{"model set big --input-price -1", 2, "invalid: input_price: want a decimal with at most 6 digits after the point"},
		{"model set big --trainer openai", 2, "invalid: trainer: openai needs an engine of that kind"},
		{"model add m --engine one --trainer trl", 2, "invalid: trainer: want builtin, openai or command:NAME, of a-z, 0-9 and dashes"},
		{"model add m --engine one --kind embedding --trainer builtin", 2, "invalid: trainer: only chat models are fine-tuned"},
		{"model remove big", 1, "model big: state forbids it: aliases stand for it: gpt-4o-mini"},
		{"engine remove two", 1, "engine two: state forbids it: models fall back to it"},
		{"model alias big big", 1, "alias big: already exists"},
		{"model alias x nope", 2, "invalid: model: there is none of that name"},
		{"model unalias nope", 1, "alias nope: not found"},
		{"model add m --engine one --fallback =x", 2, "usage: --fallback is ENGINE or ENGINE=UPSTREAM"},
		{"model add m --engine one --fallback nope", 2, "invalid: fallbacks: there is none of that name"},
		{"model add m --engine one --input-price 1000000001", 2, "invalid: input_price: want 1000000000 at most"},
		{"key set real-00 nope name=x", 1, "key nope: not found"},
		{"key set real-00 " + k.ID + " monthly_token_limit=x", 2, "usage: monthly_token_limit: want a whole number"},
		{"key set real-00 " + k.ID + " scopes=all", 2, `usage: "scopes=all" is not NAME=VALUE with a name of name, allowed_models, monthly_token_limit, concurrent_request_limit`},
		{"key set real-00 " + k.ID + " concurrent_request_limit=0", 2, "invalid: concurrent_request_limit: want 1 to 100000"},
		{"key create real-00 --concurrent 0", 2, "invalid: concurrent_request_limit: want 1 to 100000"},
		{"config set real-00 fine_tuning_running_limit=-1 file_storage_limit=-1", 2, "invalid: fine_tuning_running_limit: want 0 to 10000; file_storage_limit: want 0 to 1125899906842624"},
		{"config set real-00 prediction_log_retention_days=-1", 2, "invalid: prediction_log_retention_days: want 0 to 3650"},
	} {
		if _, err := w.run("", bad.status, strings.Fields(bad.args)...); err != "freehold: "+bad.want+"\n" {
			t.Errorf("%s: %q, want %q", bad.args, err, bad.want)
		}
	}
	w.run("", 0, "model", "unalias", "gpt-4o-mini")
	w.run("", 0, "model", "remove", "big")
	for action, want := range map[string]int{"config.set": 2, "key.create": 2, "key.set": 1, "model.set": 2, "model.alias": 1, "model.unalias": 1} {
		if n := w.audited(action); n != want {
			t.Errorf("%s: %d rows of audit, want %d", action, n, want)
		}
	}
}
