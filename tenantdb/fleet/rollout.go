package fleet

import (
	"context"
	"fmt"
	"time"

	"freehold/catalog"
	"freehold/migrations"
)

// RolloutSpec is what a rollout is planned and begun by. Only Stream is required;
// zero is the default of each other field.
type RolloutSpec struct {
	Stream      catalog.Stream
	Set         *migrations.Set // the product's, as an operator's folder has it; nil: as the catalog has it
	Target      int64           // version; 0: the latest
	Canary      []string        // slugs
	CanaryLabel string          // a key, or key=value
	Waves       []float64       // per cents of the tenants, rising; the last wave is all of them anyway
	Options     catalog.RolloutOptions
	Deadline    time.Duration // from its beginning; 0: none
	Actor       string
}

// StartRollout begins what Plan shows, led by this process: RunRollout is to follow,
// else a worker takes it within seconds. Errors: those that Plan lists as problems,
// and *catalog.OpenRollout while another one of the stream is open.
func (f *Fleet) StartRollout(ctx context.Context, spec RolloutSpec) (catalog.Rollout, error) {
	p, err := f.Plan(ctx, spec)
	if err != nil {
		return catalog.Rollout{}, err
	}
	if err := p.Refusal(); err != nil {
		return catalog.Rollout{}, fmt.Errorf("start rollout: %w", err)
	}
	begin := catalog.RolloutSpec{
		Stream: p.Stream, Target: p.Target, Actor: spec.Actor, Options: p.Options,
	}
	if spec.Deadline > 0 {
		begin.Deadline = time.Now().Add(spec.Deadline)
	}
	files, err := p.set.UpTo(p.Target).Files()
	if err != nil {
		return catalog.Rollout{}, fmt.Errorf("start rollout: %w", err)
	}
	for _, file := range files {
		kept := catalog.MigrationFile{Version: file.Version, Name: file.Name, Sum: file.Sum[:]}
		if p.Stream == catalog.StreamProduct {
			kept.Body = file.Body
		}
		begin.Files = append(begin.Files, kept)
	}
	for _, w := range p.Waves {
		wave := catalog.WaveSpec{Name: w.Name}
		for _, t := range w.Tenants {
			wave.Targets = append(wave.Targets, catalog.TargetSpec{Tenant: t.Tenant, Server: t.ServerID, From: t.From})
		}
		begin.Waves = append(begin.Waves, wave)
	}
	r, err := f.cat.BeginRollout(ctx, begin, f.taker())
	if err != nil {
		return r, err
	}
	f.log.InfoContext(ctx, "rollout begun", "rollout", r.ID, "stream", string(r.Stream), "target", r.Target)
	return r, nil
}

// rolloutSet is what a rollout applies: *Unfit where this binary's own migrations
// aren't those that were rolled out, or it doesn't have them all. latest is the
// stream's, which may be beyond the target.
func (f *Fleet) rolloutSet(ctx context.Context, r catalog.Rollout) (set migrations.Set, latest int64, err error) {
	if r.Stream == catalog.StreamProduct {
		if set, err = f.product(ctx); err == nil {
			latest, err = set.Latest()
		}
		return set.UpTo(r.Target), latest, err
	}
	if f.latest < r.Target {
		return set, 0, fmt.Errorf("rollout %s: %w: its target is %d, the latest here is %d", r.ID, ErrOtherBinary, r.Target, f.latest)
	}
	set = f.set.UpTo(r.Target)
	mine, err := set.Files()
	if err != nil {
		return set, 0, err
	}
	kept, err := f.cat.MigrationFiles(ctx, r.Stream)
	if err != nil {
		return set, 0, err
	}
	sums := make(map[int64][]byte, len(kept))
	for _, file := range kept {
		sums[file.Version] = file.Sum
	}
	for _, file := range mine {
		if string(sums[file.Version]) != string(file.Sum[:]) {
			return set, 0, fmt.Errorf("rollout %s: %w: its %s is another one", r.ID, ErrOtherBinary, file.Name)
		}
	}
	return set, f.latest, nil
}

// Upgrade brings every tenant to this binary's own schema, all at once and without a
// wait: for a platform of one process, before it serves. What a rollout of that
// stream had begun goes on. ErrPartial when some tenants can't be migrated.
func (f *Fleet) Upgrade(ctx context.Context, actor string) error {
	r, err := f.openRollout(ctx, catalog.StreamFreehold)
	if err != nil {
		return err
	}
	if r.ID != "" {
		if r.State != catalog.RolloutRunning {
			if r, err = f.cat.ResumeRollout(ctx, r.ID, actor); err != nil {
				return err
			}
		}
		if _, err := f.RunRollout(ctx, r.ID, true, nil); err != nil {
			return err
		}
	}
	// Also behind one of an older release, whose target is lower.
	spec := RolloutSpec{
		Stream: catalog.StreamFreehold, Waves: []float64{100}, Actor: actor,
		Options: catalog.RolloutOptions{Budget: "100%"},
	}
	p, err := f.Plan(ctx, spec)
	if err != nil || p.Tenants() == 0 {
		return err
	}
	if r, err = f.StartRollout(ctx, spec); err != nil {
		return err
	}
	_, err = f.RunRollout(ctx, r.ID, true, nil)
	return err
}

// openRollout is the stream's; a zero one when none is open.
func (f *Fleet) openRollout(ctx context.Context, stream catalog.Stream) (catalog.Rollout, error) {
	open, err := f.cat.OpenRollouts(ctx)
	if err != nil {
		return catalog.Rollout{}, err
	}
	for _, r := range open {
		if r.Stream == stream {
			return r, nil
		}
	}
	return catalog.Rollout{}, nil
}
