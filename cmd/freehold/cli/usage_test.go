package cli_test

import (
	"encoding/csv"
	"encoding/json"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestUsage(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	rows, err := pgx.Connect(t.Context(), os.Getenv("FREEHOLD_CATALOG_URL"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rows.Close(t.Context()) })
	for _, sql := range []string{
		`insert into tenants (id, slug, name, state, server_id, database, role, secret, secret_key_id, epoch, schema_version, named)
		 select gen_random_uuid(), n.slug, '', n.state, s.id, n.slug, n.slug, '', 0, 0, 1, true
		   from servers s, (values ('acme', 'active'), ('globex', 'deleted'), ('idle', 'active')) n (slug, state)`,
		`insert into usage_daily (tenant, day, model, requests, prompt_tokens, completion_tokens, cost)
		 select t.id, n.day::date, n.model, 1, 10, 5, n.cost
		   from tenants t join (values ('acme', '2026-11-01', 'chat-1', 100000001), ('acme', '2026-11-30', 'chat-1', 200000002), ('acme', '2026-11-02', 'embed-1', 0),
		        ('acme', '2026-12-01', 'chat-1', 9), ('globex', '2026-11-05', 'chat-1', 7000000000)) n (slug, day, model, cost) on n.slug = t.slug`,
	} {
		if _, err := rows.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}

	out, _ := b.run("", 0, "usage", "--all", "--month", "2026-11")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 5 || strings.Join(strings.Fields(lines[1]), " ") != "acme chat-1 2 20 10 0.300000003" ||
		strings.Join(strings.Fields(lines[3]), " ") != "globex chat-1 1 10 5 7.00" ||
		strings.Join(strings.Fields(lines[4]), " ") != "total of 2026-11 4 40 20 7.300000003" {
		t.Errorf("table:\n%s", out)
	}
	out, _ = b.run("", 0, "usage", "--all", "--month", "2026-11", "-o", "csv")
	if strings.Count(out, "\r\n") != 4 || strings.Count(out, "\n") != 4 {
		t.Errorf("lines don't end as RFC 4180 has it: %q", out)
	}
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(records) != 4 || strings.Join(records[0], " ") != "month tenant tenant_id model requests prompt_tokens completion_tokens cost cost_nano" {
		t.Fatalf("%q, %v", records, err)
	}
	sum := new(big.Rat)
	for _, r := range records[1:] {
		cost, ok := new(big.Rat).SetString(r[7])
		nano, also := new(big.Rat).SetString(r[8])
		if !ok || !also || cost.Cmp(nano.Quo(nano, big.NewRat(1_000_000_000, 1))) != 0 {
			t.Errorf("%q", r)
			continue
		}
		sum.Add(sum, cost)
	}
	if got := sum.FloatString(9); got != "7.300000003" {
		t.Errorf("the lines sum to %s", got)
	}
	var in struct {
		Lines []struct {
			CostNano int64 `json:"cost_nano"`
		}
		Total struct{ Cost string }
	}
	out, _ = b.run("", 0, "usage", "globex", "--month", "2026-11", "-o", "json")
	if err := json.Unmarshal([]byte(out), &in); err != nil || len(in.Lines) != 1 || in.Lines[0].CostNano != 7_000_000_000 || in.Total.Cost != "7.00" {
		t.Errorf("%s, %v", out, err)
	}
	if out, _ = b.run("", 0, "usage", "idle", "-o", "json"); strings.Contains(out, "null") || !strings.Contains(out, `"cost": "0.00"`) {
		t.Errorf("one who used nothing: %s", out)
	}
	for args, want := range map[string]string{
		"usage": "give SLUG or --all", "usage acme --all": "give SLUG or --all", "usage acme --month 2026-13": "month: want a month such as 2026-11",
		"usage --all -o xml": `--output is table or json, not "xml"`, "tenant list -o csv": `--output is table or json, not "csv"`,
	} {
		if _, stderr := b.run("", 2, strings.Fields(args)...); !strings.Contains(stderr, want) {
			t.Errorf("%s: %s", args, stderr)
		}
	}
	if _, stderr := b.run("", 1, "usage", "nope"); !strings.Contains(stderr, "tenant nope: not found") {
		t.Errorf("nobody: %s", stderr)
	}
}
