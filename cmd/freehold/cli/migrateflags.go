package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/migrations"
	"freehold/tenantdb/fleet"
)

// rolloutFlags are what can be said of a rollout, planned or begun.
type rolloutFlags struct {
	dir, stream, waves, canaryLabel string
	to                              int64
	canary                          []string
	deadline                        time.Duration
	noGate                          bool
	options                         catalog.RolloutOptions
}

// noLintFlag is read by lintPending.
const noLintFlag = "no-lint"

// rolloutFlags gives a command those flags. What it returns reads them, and the folder
// of migrations that they name.
func (e *env) rolloutFlags(c *cobra.Command) func() (fleet.RolloutSpec, error) {
	o := &rolloutFlags{options: fleet.DefaultOptions()}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "folder with the product's migrations; without it, Freehold's own")
	f.StringVar(&o.stream, "stream", "", "freehold or product: with no --dir, the product's as they were rolled out last")
	f.Int64Var(&o.to, "to", 0, "version to end at (default: the latest)")
	f.StringArrayVar(&o.canary, "canary", nil, "a tenant of the first wave, repeated")
	f.StringVar(&o.canaryLabel, "canary-label", "", "KEY or KEY=VALUE: tenants of the first wave")
	f.StringVar(&o.waves, "waves", "1,10,100", "per cents of the tenants, one wave after another")
	f.DurationVar(&o.options.Soak, "soak", o.options.Soak, "how long is watched between two waves; 0: not")
	f.IntVar(&o.options.Parallel, "parallel", 0, "databases at once on each server (default: 4, or as many as its reserve has room for)")
	f.StringVar(&o.options.Budget, "budget", o.options.Budget, "failures that don't halt it: a number, or a per cent of the tenants")
	f.DurationVar(&o.options.LockTimeout, "lock-timeout", o.options.LockTimeout, "how long a statement waits for a lock, and holds up who comes behind it")
	f.DurationVar(&o.options.StatementTimeout, "statement-timeout", o.options.StatementTimeout, "how long a statement may take; 0: any time")
	f.IntVar(&o.options.Retries, "retries", o.options.Retries, "tries more at a tenant whose locks others have, or that is away")
	f.DurationVar(&o.deadline, "deadline", 0, "halt it when it isn't done by then (default: none)")
	f.BoolVar(&o.noGate, "no-gate", false, "don't compare how tenants are served before and after a wave")
	f.Float64Var(&o.options.GateFailures, "gate-failures", o.options.GateFailures, "halt when requests fail so many times as often; 0: don't look")
	f.Float64Var(&o.options.GateLatency, "gate-latency", o.options.GateLatency, "halt when the p99 is so many times as long; 0: don't look")
	f.Bool(noLintFlag, false, "go on with what the lint finds wrong")
	return func() (fleet.RolloutSpec, error) { return o.spec(c) }
}

func (o *rolloutFlags) spec(c *cobra.Command) (spec fleet.RolloutSpec, err error) {
	spec = fleet.RolloutSpec{
		Target: o.to, Canary: o.canary, CanaryLabel: o.canaryLabel, Options: o.options, Deadline: o.deadline, Actor: actor(),
	}
	if spec.Stream, err = streamOf(o.stream, o.dir); err != nil {
		return spec, err
	}
	if spec.Waves, err = readCents(o.waves); err != nil {
		return spec, err
	}
	said := c.Flags().Changed
	switch {
	case said("to") && o.to < 1:
		return spec, fmt.Errorf("%w: --to is at least 1", errUsage)
	case said("parallel") && o.options.Parallel < 1:
		return spec, fmt.Errorf("%w: --parallel is at least 1", errUsage)
	case said("lock-timeout") && o.options.LockTimeout <= 0:
		return spec, fmt.Errorf("%w: --lock-timeout is more than 0", errUsage)
	case said("deadline") && o.deadline <= 0:
		return spec, fmt.Errorf("%w: --deadline is more than 0", errUsage)
	case o.options.Soak < 0, o.options.StatementTimeout < 0, o.options.Retries < 0, o.options.GateFailures < 0, o.options.GateLatency < 0:
		return spec, fmt.Errorf("%w: --soak, --statement-timeout, --retries, --gate-failures and --gate-latency are not negative", errUsage)
	case o.noGate && (said("gate-failures") || said("gate-latency")):
		return spec, fmt.Errorf("%w: --no-gate or a gate, not both", errUsage)
	}
	if o.noGate {
		spec.Options.GateFailures, spec.Options.GateLatency = 0, 0
	}
	spec.Options = nothing(spec.Options)
	if o.dir != "" {
		set, err := migrations.ReadDir(o.dir)
		if err != nil {
			return spec, err
		}
		spec.Set = &set
	}
	return spec, nil
}

// nothing says what is zero here as a fleet wants it said: its zero is a default.
func nothing(o catalog.RolloutOptions) catalog.RolloutOptions {
	for _, d := range []*time.Duration{&o.Soak, &o.StatementTimeout} {
		if *d == 0 {
			*d = -1
		}
	}
	for _, g := range []*float64{&o.GateFailures, &o.GateLatency} {
		if *g == 0 {
			*g = -1
		}
	}
	if o.Retries == 0 {
		o.Retries = -1
	}
	return o
}

// streamOf is the stream that is meant: with a folder, the product's.
func streamOf(said, dir string) (catalog.Stream, error) {
	switch s := catalog.Stream(said); {
	case s == "" && dir == "":
		return catalog.StreamFreehold, nil
	case s == "" || s == catalog.StreamProduct:
		return catalog.StreamProduct, nil
	case s != catalog.StreamFreehold:
		return "", fmt.Errorf("%w: --stream is freehold or product, not %q", errUsage, said)
	case dir != "":
		return "", fmt.Errorf("%w: --dir has the product's migrations; Freehold's are in this binary", errUsage)
	}
	return catalog.StreamFreehold, nil
}

// readCents reads per cents as 1,10,100 or 1%,10%.
func readCents(text string) (list []float64, err error) {
	for part := range strings.SplitSeq(text, ",") {
		cent, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(part), "%"), 64)
		if err != nil {
			return nil, fmt.Errorf("%w: --waves wants per cents such as 1,10,100, not %q", errUsage, text)
		}
		list = append(list, cent)
	}
	return list, nil
}
