package app_test

import (
	"errors"
	"strings"
	"testing"

	"freehold/cmd/freehold/app"
)

// env is an environment; what isn't in it isn't set.
func env(pairs ...string) func(string) string {
	vars := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		vars[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return vars[name] }
}

// Each default is what the router does when nothing is said, and is valid.
func TestRoutingDefaults(t *testing.T) {
	t.Parallel()
	c := app.FromEnv(env())
	if err := c.Check(app.NeedAddresses); err != nil {
		t.Error(err)
	}
	for _, s := range c.Routing.Settings() {
		if *s.Value != s.Default || s.Usage == "" || !strings.HasPrefix(s.Env, "FREEHOLD_") {
			t.Errorf("%+v: %q", s, *s.Value)
		}
	}
}

// Every mistake is told at once, by its name.
func TestRoutingMistakes(t *testing.T) {
	t.Parallel()
	wrong := map[string][]string{
		"FREEHOLD_QUEUE_WAIT":         {"x", "5", "0s", "-1s", "2h"},
		"FREEHOLD_PAUSE_WAIT":         {"1ns"},
		"FREEHOLD_PAUSE_QUEUE":        {"0", "many", "-1", "1e3"},
		"FREEHOLD_TENANT_CONNECTIONS": {"0", "8.5"},
		"FREEHOLD_MAX_POOLS":          {"0", "99999999999999999999"},
		"FREEHOLD_IDLE_TIMEOUT":       {"60"},
		"FREEHOLD_LEASE_WARN":         {"0"},
		"FREEHOLD_STALE_SERVE":        {"never"},
		"FREEHOLD_PLAN_WEIGHTS":       {"premium", "premium=0", "=4", "a=1,a=2", "a=1,", "a=1001", "a=x"},
		"OTEL_TRACES_EXPORTER":        {"zipkin"},
	}
	var all []string
	for name, values := range wrong {
		for _, v := range values {
			err := app.FromEnv(env(name, v)).Check(app.NeedAddresses)
			if !errors.Is(err, app.ErrConfig) || !strings.Contains(err.Error(), name+": ") {
				t.Errorf("%s=%s: %v", name, v, err)
			}
		}
		all = append(all, name, values[0])
	}
	err := app.FromEnv(env(all...)).Check(app.NeedAddresses)
	for name := range wrong {
		if err == nil || !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s isn't named: %v", name, err)
		}
	}
}

func TestPlanWeights(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want map[string]int
	}{
		{"", map[string]int{"premium": 1, "standard": 1, "": 1}},
		{"premium=4", map[string]int{"premium": 4, "standard": 1, "": 1}},
		{" premium = 4 ,standard=2", map[string]int{"premium": 4, "standard": 2, "gold": 1}},
	} {
		weight, err := app.PlanWeight(c.text)
		if err != nil {
			t.Fatal(err)
		}
		for plan, n := range c.want {
			if got := weight(plan); got != n {
				t.Errorf("%q: %s weighs %d, want %d", c.text, plan, got, n)
			}
		}
	}
}
