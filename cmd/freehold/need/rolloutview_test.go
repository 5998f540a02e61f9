package need_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/need"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// rolled is a rollout of 200 tenants in its second wave, as change leaves it.
func rolled(change func(*catalog.RolloutStatus)) catalog.RolloutStatus {
	ago := func(d time.Duration) *time.Time { at := noon.Add(-d); return &at }
	left := 2 * time.Second
	s := catalog.RolloutStatus{
		Rollout: catalog.Rollout{
			ID: "0a1b2c3d-0000-4000-8000-000000000000", Stream: catalog.StreamProduct, Target: 3, State: catalog.RolloutRunning, Wave: 1,
			LeaseUntil: ago(-10 * time.Second), CreatedAt: *ago(time.Minute),
			Options: catalog.RolloutOptions{Soak: 30 * time.Second, StatementTimeout: 15 * time.Minute},
		},
		Waves: []catalog.RolloutWave{
			{N: 0, Name: "canary", Targets: 2, Done: 2, BegunAt: ago(time.Minute), MigratedAt: ago(50 * time.Second), PassedAt: ago(20 * time.Second)},
			{N: 1, Name: "10%", Targets: 18, Done: 8, BegunAt: ago(20 * time.Second)},
			{N: 2, Name: "100%", Targets: 180},
		},
		Total: 200, Done: 10, Waiting: 190, Rate: 41.3, Left: &left,
	}
	change(&s)
	return s
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	migrated := func(since time.Duration) func(*catalog.RolloutStatus) {
		return func(s *catalog.RolloutStatus) {
			at := noon.Add(-since)
			s.Waves[1].MigratedAt, s.Left, s.Rate = &at, nil, 0
		}
	}
	for name, c := range map[string]struct {
		change func(*catalog.RolloutStatus)
		want   string
	}{
		"runs":        {func(*catalog.RolloutStatus) {}, "running: 10 of 200 done, wave 2 of 3 (10%), 41/s, about 2.0 s left"},
		"with failed": {func(s *catalog.RolloutStatus) { s.Failed = 1 }, "running: 10 of 200 done, 1 failed, wave 2 of 3 (10%), 41/s, about 2.0 s left"},
		"slow":        {func(s *catalog.RolloutStatus) { s.Rate, *s.Left = 0.25, 12*time.Minute }, "running: 10 of 200 done, wave 2 of 3 (10%), 0.2/s, about 12 min left"},
		"some gone":   {func(s *catalog.RolloutStatus) { s.Gone, s.Left, s.Rate = 5, nil, 0 }, "running: 10 of 195 done, wave 2 of 3 (10%)"},
		"soaks":       {migrated(18 * time.Second), "running: 10 of 200 done, wave 2 of 3 (10%) soaks for another 12 s"},
		"is judged":   {migrated(31 * time.Second), "running: 10 of 200 done, wave 2 of 3 (10%) is being judged"},
		"nobody leads": {func(s *catalog.RolloutStatus) {
			at := noon.Add(-11 * time.Second)
			s.LeaseUntil, s.Left, s.Rate = &at, nil, 0
		}, "running, but nobody works on it: 10 of 200 done, wave 2 of 3 (10%)"},
		"nobody ever led": {func(s *catalog.RolloutStatus) { s.LeaseUntil, s.Left, s.Rate = nil, nil, 0 }, "running, but nobody works on it: 10 of 200 done, wave 2 of 3 (10%)"},
		"halted": {func(s *catalog.RolloutStatus) {
			s.State, s.Reason, s.Failed = catalog.RolloutHalted, "4 failed, 3 are borne", 4
		}, "HALTED: 4 failed, 3 are borne; 10 of 200 done, 4 failed"},
		"in part": {func(s *catalog.RolloutStatus) {
			s.State, s.Done, s.Failed, s.Waiting = catalog.RolloutPartial, 199, 1, 0
		}, "done in part: 1 of 200 failed, 199 done"},
		"done": {func(s *catalog.RolloutStatus) {
			at := s.CreatedAt.Add(4200 * time.Millisecond)
			s.State, s.Done, s.Waiting, s.EndedAt = catalog.RolloutDone, 200, 0, &at
		}, "done: 200 tenants at version 3, in 4.2 s"},
		"aborted":                {func(s *catalog.RolloutStatus) { s.State, s.Reason = catalog.RolloutAborted, "" }, "aborted; 10 of 200 done"},
		"a reason of many lines": {func(s *catalog.RolloutStatus) { s.State, s.Reason = catalog.RolloutAborted, "a\nb\x1b[2J" }, "aborted: a b [2J; 10 of 200 done"},
	} {
		if got := need.OfRollout(rolled(c.change), noon).Verdict; got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// Each kind of failure names the commands that lead out of it, with the tenant.
func TestRolloutFailures(t *testing.T) {
	t.Parallel()
	const resume, abort = "freehold migrate resume 0a1b2c3d", "freehold migrate abort 0a1b2c3d"
	for kind, want := range map[string][]string{
		catalog.FailLocked:   {"freehold tenant psql acme", resume},
		catalog.FailSQL:      {"freehold tenant psql --write acme", resume},
		catalog.FailAway:     {"freehold doctor", resume},
		catalog.FailMissing:  {"freehold doctor", resume},
		catalog.FailAhead:    {resume},
		catalog.FailTime:     {abort, "freehold migrate up --stream product --statement-timeout 2h"},
		catalog.FailInvalid:  {"freehold migrate drift --rebuild acme", resume},
		catalog.FailOther:    {resume},
		"of another release": {resume},
	} {
		s := rolled(func(s *catalog.RolloutStatus) {
			s.State, s.Failures = catalog.RolloutPartial, []catalog.FailureGroup{{Kind: kind, Count: 2, Tenants: []string{"acme", "globex"}}}
		})
		v := need.OfRollout(s, noon)
		if len(v.Failures) != 1 || !slices.Equal(v.Failures[0].Commands, want) || v.Failures[0].Advice == "" {
			t.Errorf("%s: %+v, want %v", kind, v.Failures, want)
		}
		// What is over isn't resumed.
		s.State = catalog.RolloutAborted
		for _, c := range need.OfRollout(s, noon).Failures[0].Commands {
			if strings.Contains(c, "resume") || strings.Contains(c, "abort") {
				t.Errorf("%s of an aborted one: %s", kind, c)
			}
		}
	}
}

// Its JSON has lists, never null, and failures once, with their commands.
func TestRolloutJSON(t *testing.T) {
	t.Parallel()
	text, err := json.Marshal(need.OfRollout(catalog.RolloutStatus{}, noon))
	if err != nil {
		t.Fatal(err)
	}
	if s := string(text); strings.Contains(s, "null") || strings.Count(s, `"failures"`) != 1 {
		t.Errorf("%s", s)
	}
	v := need.OfRollout(rolled(func(s *catalog.RolloutStatus) { s.Failures = []catalog.FailureGroup{{Kind: catalog.FailSQL, Count: 1}} }), noon)
	text, err = json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"verdict":"running`, `"commands":["freehold tenant psql --write SLUG"`, `"tenants":[]`, `"id":"0a1b2c3d-`, `"kind":"sql"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("lacks %s: %s", want, text)
		}
	}
}
