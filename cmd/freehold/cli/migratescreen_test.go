package cli_test

import (
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/cli"
	"freehold/cmd/freehold/need"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) *time.Time {
	at := noon.Add(-d)
	return &at
}

// sabotaged is a rollout over 200 tenants, one of which somebody sabotaged.
func sabotaged() catalog.RolloutStatus {
	return catalog.RolloutStatus{
		Rollout: catalog.Rollout{
			ID: "0a1b2c3d-0000-4000-8000-000000000000", Stream: catalog.StreamProduct, Target: 2, Actor: "ann@desk",
			State: catalog.RolloutPartial, Wave: 1, CreatedAt: *before(time.Minute), EndedAt: before(0),
		},
		Waves: []catalog.RolloutWave{
			{
				N: 0, Name: "canary", Targets: 2, Done: 2, BegunAt: before(time.Minute), MigratedAt: before(50 * time.Second), PassedAt: before(20 * time.Second),
				Health: []byte(`{"sentence":"too little traffic to judge"}`),
			},
			{N: 1, Name: "100%", Targets: 198, Done: 197, Failed: 1, BegunAt: before(20 * time.Second), MigratedAt: before(0)},
		},
		Total: 200, Done: 199, Failed: 1,
		Slowest: []catalog.TargetRow{{Tenant: "globex", Server: "main", Millis: 1240}, {Tenant: "acme", Server: "main", Millis: 210}},
		Failures: []catalog.FailureGroup{{
			Kind: catalog.FailSQL, File: "00002_notes.sql", Error: `00002_notes.sql: relation "notes" already exists (SQLSTATE 42P07)`,
			Count: 1, Tenants: []string{"demo-7"},
		}},
	}
}

// The screen is read in five seconds: a verdict, then why, and what to run next.
func TestRolloutLines(t *testing.T) {
	t.Parallel()
	want := `done in part: 1 of 200 failed, 199 done
[███████████████████████████████████████✗] 99%
rollout 0a1b2c3d   product to version 2   begun 2026-07-01 11:59 by ann@desk

WAVE    TENANTS  DONE  FAILED  RUNNING  STATE
canary  2        2     0       0        passed: too little traffic to judge
100%    198      197   1       0        migrated

! 1 tenant failed (sql): 00002_notes.sql: relation "notes" already exists (SQLSTATE 42P07)
  demo-7
  it conflicts with what is in the database: mend that
  → freehold tenant psql --write demo-7
  → freehold migrate resume 0a1b2c3d

slowest: globex 1.2s (main), acme 210ms (main)

! the schemas of 2 tenants are not what the migrations make → freehold migrate drift
1 tenant has been suspended or deleted meanwhile: migrated when resumed`
	s := sabotaged()
	s.Total, s.Gone, s.Drifted = 201, 1, 2
	if got := strings.Join(cli.RolloutLines(need.OfRollout(s, noon)), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	s = sabotaged()
	s.State, s.Wave, s.Worker, s.LeaseUntil, s.EndedAt = catalog.RolloutRunning, 0, "worker-1", before(-10*time.Second), nil
	s.Waves[0].PassedAt, s.Waves[0].MigratedAt, s.Waves[0].Done, s.Waves[0].Running = nil, nil, 1, 1
	s.Waves[1] = catalog.RolloutWave{N: 1, Name: "100%", Targets: 198}
	s.Done, s.Failed, s.Running, s.Waiting, s.Failures, s.Slowest = 1, 0, 1, 198, nil, nil
	want = `running: 1 of 200 done, wave 1 of 2 (canary)
[░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░] 0%
rollout 0a1b2c3d   product to version 2   begun 2026-07-01 11:59 by ann@desk   led by worker-1

WAVE    TENANTS  DONE  FAILED  RUNNING  STATE
canary  2        1     0       1        at work
100%    198      0     0       0        waits`
	if got := strings.Join(cli.RolloutLines(need.OfRollout(s, noon)), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for state, want := range map[string]string{catalog.RolloutHalted: "stopped", catalog.RolloutAborted: "left out"} {
		s.State = state
		if got := strings.Join(cli.RolloutLines(need.OfRollout(s, noon)), "\n"); !strings.Contains(got, "canary  2        1     0       1        "+want) {
			t.Errorf("%s:\n%s", state, got)
		}
	}
}

// What a command says at its end: how many are where, and each reason once.
func TestRolloutSummary(t *testing.T) {
	t.Parallel()
	s := sabotaged()
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		s.Failures = append(s.Failures, catalog.FailureGroup{Kind: catalog.FailLocked, Error: name, Count: 7, Tenants: []string{"t1", "t2", "t3", "t4", "t5"}})
	}
	got := strings.Join(cli.Summary(need.OfRollout(s, noon)), "\n")
	for _, want := range []string{
		"199 of 200 tenants at version 2\ndone in part: 1 of 200 failed, 199 done\n! 1 tenant failed (sql): 00002_notes.sql: ",
		"! 7 tenants failed (locked): a\n  t1, t2, t3, t4, t5 and 2 more\n",
		"\nand 2 reasons more: freehold migrate status 0a1b2c3d --targets --state failed",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	s = sabotaged()
	s.State, s.Done, s.Failed, s.Failures = catalog.RolloutDone, 200, 0, nil
	if got := strings.Join(cli.Summary(need.OfRollout(s, noon)), "\n"); got != "200 of 200 tenants at version 2" {
		t.Errorf("done:\n%s", got)
	}
	// Halted by the gate, nobody failed, and there is still something to do.
	s.State, s.Done, s.Reason = catalog.RolloutHalted, 2, "after wave canary: more requests fail"
	got = strings.Join(cli.Summary(need.OfRollout(s, noon)), "\n")
	if !strings.Contains(got, "HALTED: after wave canary: more requests fail") || !strings.Contains(got, "→ freehold migrate resume 0a1b2c3d") {
		t.Errorf("halted:\n%s", got)
	}
}

// The bar is as wide whatever is in it, and a failure is never rounded away.
func TestDrawnBar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		done, failed, total int
		ends, holds         string
	}{
		{0, 0, 0, "] 100%", ""}, {0, 0, 7, "] 0%", "░"}, {7, 0, 7, "] 100%", "█"}, {9999, 1, 10000, "] 99%", "✗"},
		{0, 1, 10000, "] 0%", "✗"}, {0, 3, 3, "] 0%", "✗"}, {1, 1, 3, "] 33%", "░"}, {39, 1, 40, "] 97%", "✗"},
	} {
		got := cli.DrawnBar(c.done, c.failed, c.total)
		bar, _, _ := strings.Cut(strings.TrimPrefix(got, "["), "]")
		if n := len([]rune(bar)); n != 40 || !strings.HasSuffix(got, c.ends) || !strings.Contains(got, c.holds) {
			t.Errorf("%d and %d of %d: %s (%d wide)", c.done, c.failed, c.total, got, n)
		}
	}
}
