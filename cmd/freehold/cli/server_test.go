package cli_test

import (
	"encoding/json"
	"strings"
	"testing"

	"freehold/catalog"
	"freehold/cmd/freehold/cli"
)

func TestServerSet(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	out, _ := b.run("", 0, "server", "set", "main", "--label", "disk=nvme", "--label", "rack=a", "--plan", "gold", "--plan", "basic",
		"--ready", "3", "--max-databases", "40", "--max-recovery", "90s", "--disk", "1.5TB", "--budget", "100", "--reserve", "20", "-o", "json")
	var s catalog.Server
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		t.Fatal(err)
	}
	if s.Labels["disk"] != "nvme" || s.Labels["rack"] != "a" || strings.Join(s.Plans, " ") != "basic gold" || s.Ready != 3 ||
		s.MaxDatabases != 40 || s.MaxRecovery != 90 || s.DiskBytes != 15e11 || s.Budget != 100 || s.Reserve != 20 || s.State != "active" {
		t.Errorf("set: %s", out)
	}
	out, _ = b.run("", 0, "server", "list")
	for _, part := range []string{"0 of 40", "0 of 3", "of 90 s", "basic,gold", "disk=nvme,rack=a"} {
		if !strings.Contains(out, part) {
			t.Errorf("list has no %q:\n%s", part, out)
		}
	}
	b.run("", 0, "server", "set", "main", "--state", "draining", "--label", "", "--plan", "", "--max-databases", "0")
	out, _ = b.run("", 0, "server", "show", "main")
	for _, part := range []string{"draining", "any that no server lists", "as recovery allows", "room for 0", "budget 100, reserve 20 of 300"} {
		if !strings.Contains(out, part) {
			t.Errorf("show has no %q:\n%s", part, out)
		}
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"main", 2, "usage: nothing to change: name a flag"},
		{"main --label x", 2, `usage: --label wants KEY=VALUE, not "x"`},
		{"main --disk big", 2, `usage: --disk wants a size as 500GB or 2TiB, not "big"`},
		{"main --max-recovery 1500ms", 2, "usage: --max-recovery wants whole seconds, as 90s or 2m"},
		{"main --state gone --ready -1", 2, "invalid: state: want active, draining, down; ready: want 0 to 1000"},
		{"main --budget 290", 2, "invalid: budget: 290 and a reserve of 20 exceed max_connections, 300"},
		{"nope --ready 1", 1, "server nope: not found"},
	} {
		_, err := b.run("", c.status, append([]string{"server", "set"}, strings.Fields(c.args)...)...)
		if err != "freehold: "+c.want+"\n" {
			t.Errorf("%s: got %q, want %q", c.args, err, c.want)
		}
	}
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "1000": 1000, "7B": 7, "5kB": 5000, "5 MB": 5e6, "500GB": 5e11, "1.5TB": 15e11, "2TiB": 2 << 40, "1Gi": 1 << 30, "1PB": 1e15,
	} {
		if got, ok := cli.ParseSize(text); !ok || got != want {
			t.Errorf("%q is %d, %v, want %d", text, got, ok, want)
		}
	}
	for _, text := range []string{"", "GB", "-1GB", "5XB", "5GBB", "5GG", "5iB", "NaN", "Inf", "1e30", "99999PB", "5 G B x", "0x10"} {
		if got, ok := cli.ParseSize(text); ok {
			t.Errorf("%q is %d", text, got)
		}
	}
}
