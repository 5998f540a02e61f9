package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/need"
	"freehold/cmd/freehold/rest"
	"freehold/migrations"
	"freehold/migrations/lint"
	"freehold/tenantdb/fleet"
)

var rolloutFilters = append([]rest.Query{
	{Name: "state", Type: "string", Summary: "Only rollouts in this state: running, halted, partial, done or aborted."},
	{Name: "stream", Type: "string", Summary: "Only rollouts of this stream: freehold or product."},
}, rest.Paging...)

var targetFilters = append([]rest.Query{
	{Name: "state", Type: "string", Summary: "Only tenants in this state: waiting, running, done, failed or gone."},
	{Name: "tenant", Type: "string", Summary: "Only this tenant."},
}, rest.Paging...)

var abortQuery = []rest.Query{{Name: "reason", Type: "string", Summary: "Why, for the audit and for status."}}

// maxReason is how long a reason may be, in bytes.
const maxReason = 500

var (
	rolloutStates = []string{
		"", catalog.RolloutRunning, catalog.RolloutHalted, catalog.RolloutPartial, catalog.RolloutDone, catalog.RolloutAborted,
	}
	targetStates = []string{
		"", catalog.TargetWaiting, catalog.TargetRunning, catalog.TargetDone, catalog.TargetFailed, catalog.TargetGone,
	}
	streams = []string{"", string(catalog.StreamFreehold), string(catalog.StreamProduct)}
)

// oneOf refuses a query parameter that is none of those.
func oneOf(r *rest.Request, name string, known []string) (string, error) {
	value := r.Query(name)
	if !slices.Contains(known, value) {
		return "", rest.Bad(name, fmt.Sprintf("No such %s: %q.", name, value))
	}
	return value, nil
}

func (s *server) rollouts(ctx context.Context, _ operator, r *rest.Request) (page rest.List[catalog.Rollout], err error) {
	limit, after, err := r.Page(100, 1000)
	if err != nil {
		return page, err
	}
	f := catalog.RolloutFilter{After: after, Limit: limit + 1} // one more tells whether there are more
	if f.State, err = oneOf(r, "state", rolloutStates); err != nil {
		return page, err
	}
	stream, err := oneOf(r, "stream", streams)
	if err != nil {
		return page, err
	}
	f.Stream = catalog.Stream(stream)
	list, err := s.catalog.Rollouts(ctx, f)
	if err != nil {
		return page, err
	}
	return rest.Page(list, limit, func(o catalog.Rollout) string { return o.ID }), nil
}

func (s *server) rollout(ctx context.Context, _ operator, r *rest.Request) (need.Rollout, error) {
	status, err := s.catalog.RolloutStatus(ctx, r.Param("id"))
	if err != nil {
		return need.Rollout{}, err
	}
	return need.OfRollout(status, time.Now()), nil
}

func (s *server) rolloutTargets(ctx context.Context, _ operator, r *rest.Request) (page rest.List[catalog.TargetRow], err error) {
	limit, after, err := r.Page(100, 1000)
	if err != nil {
		return page, err
	}
	f := catalog.TargetFilter{Tenant: r.Query("tenant"), After: after, Limit: limit + 1}
	if f.State, err = oneOf(r, "state", targetStates); err != nil {
		return page, err
	}
	now, err := s.catalog.Rollout(ctx, r.Param("id"))
	if err != nil {
		return page, err
	}
	list, err := s.catalog.RolloutTargets(ctx, now.ID, f)
	if err != nil {
		return page, err
	}
	return rest.Page(list, limit, func(t catalog.TargetRow) string { return t.Tenant }), nil
}

func (s *server) resumeRollout(ctx context.Context, who operator, r *rest.Request) (catalog.Rollout, error) {
	return s.catalog.ResumeRollout(ctx, r.Param("id"), string(who))
}

func (s *server) abortRollout(ctx context.Context, who operator, r *rest.Request) (catalog.Rollout, error) {
	reason := r.Query("reason")
	if len(reason) > maxReason {
		return catalog.Rollout{}, rest.Bad("reason", fmt.Sprintf("reason must be at most %d bytes.", maxReason))
	}
	return s.catalog.AbortRollout(ctx, r.Param("id"), string(who), reason)
}

type newRollout struct {
	Stream string    `json:"stream" doc:"freehold, Freehold's own schema, or product."`
	Files  []newFile `json:"files,omitempty" doc:"All migrations of the product; those that were last rolled out when left out."`
	NoLint bool      `json:"no_lint,omitempty" doc:"Begin in spite of what the linter says of new files."`

	Target      int64     `json:"target,omitempty" doc:"A version; the latest when left out."`
	Canary      []string  `json:"canary,omitempty" doc:"Slugs of the tenants that are first."`
	CanaryLabel string    `json:"canary_label,omitempty" doc:"name or name=value: the tenants with this label are first."`
	Waves       []float64 `json:"waves,omitempty" doc:"Per cents of the tenants, rising; 1, 10, 100 when left out."`

	Parallel         int      `json:"parallel,omitempty" doc:"Databases at once, on each server."`
	Budget           string   `json:"budget,omitempty" doc:"Failures that are borne: a number, or a per cent such as 1%."`
	LockTimeout      seconds  `json:"lock_timeout_seconds,omitempty"`
	StatementTimeout *seconds `json:"statement_timeout_seconds,omitempty" doc:"0: none."`
	Retries          *int     `json:"retries,omitempty" doc:"Of what others held, or was away."`
	Soak             *seconds `json:"soak_seconds,omitempty" doc:"Between two waves."`
	GateFailures     *float64 `json:"gate_failures,omitempty" doc:"How many times the failures of before halt it; 0: never."`
	GateLatency      *float64 `json:"gate_latency,omitempty" doc:"How many times the p99 of before halts it; 0: never."`
	Deadline         seconds  `json:"deadline_seconds,omitempty" doc:"From now; none when left out."`
}

type newFile struct {
	Name string `json:"name" doc:"NNNNN_name.sql"`
	Body string `json:"body"`
}

// seconds is a length of time on the wire.
type seconds float64

// maxSeconds is more than anything may last, and fits a duration.
const maxSeconds = 1e9

func (s seconds) duration() time.Duration {
	return time.Duration(min(max(float64(s), -maxSeconds), maxSeconds) * float64(time.Second))
}

// orNone is what a spec wants of a value that may be none, which it says by a
// negative one: zero is its default.
func orNone[T int | float64 | time.Duration](given *T) (v T) {
	switch {
	case given == nil:
		return 0
	case *given == 0:
		return -1
	default:
		return *given
	}
}

func lasting(s *seconds) *time.Duration {
	if s == nil {
		return nil
	}
	d := s.duration()
	return &d
}

// spec is what is asked for, without the files.
func (in newRollout) spec(who operator) fleet.RolloutSpec {
	return fleet.RolloutSpec{
		Stream: catalog.Stream(in.Stream), Target: in.Target, Canary: in.Canary, CanaryLabel: in.CanaryLabel, Waves: in.Waves,
		Options: catalog.RolloutOptions{
			Parallel: in.Parallel, Budget: in.Budget, LockTimeout: in.LockTimeout.duration(),
			StatementTimeout: orNone(lasting(in.StatementTimeout)), Retries: orNone(in.Retries), Soak: orNone(lasting(in.Soak)),
			GateFailures: orNone(in.GateFailures), GateLatency: orNone(in.GateLatency),
		},
		Deadline: in.Deadline.duration(), Actor: string(who),
	}
}

// maxFiles is how many migrations a product may have in a request.
const maxFiles = 2000

// beginRollout begins a rollout that workers do. Its answer is the rollout.
func (s *server) beginRollout(ctx context.Context, who operator, _ *rest.Request, in newRollout) (catalog.Rollout, error) {
	spec := in.spec(who)
	if len(in.Files) > 0 {
		set, err := in.set()
		if err != nil {
			return catalog.Rollout{}, err
		}
		spec.Set = &set
	}
	plan, err := s.fleet.Plan(ctx, spec)
	if err != nil {
		return catalog.Rollout{}, renamed(err)
	}
	if err := plan.Refusal(); err != nil {
		return catalog.Rollout{}, err
	}
	if plan.Nothing() {
		return catalog.Rollout{}, fmt.Errorf("all tenants are at version %d of %s already: %w", plan.Target, plan.Stream, catalog.ErrConflict)
	}
	if !in.NoLint {
		if err := lintPending(plan); err != nil {
			return catalog.Rollout{}, err
		}
	}
	r, err := s.fleet.StartRollout(ctx, spec)
	if err != nil {
		return catalog.Rollout{}, renamed(err)
	}
	// Workers do it. When they can't be told, they take it once the lease is over.
	_ = s.catalog.LeaveRollout(ctx, r)
	return r, nil
}

// renamed calls what is wrong by its name on the wire, where the command line's flag
// has another one.
func renamed(err error) error {
	bad, ok := errors.AsType[*catalog.Invalid](err)
	name := map[string]string{
		"dir": "files", "to": "target", "lock_timeout": "lock_timeout_seconds", "statement_timeout": "statement_timeout_seconds",
		"soak": "soak_seconds", "deadline": "deadline_seconds",
	}
	if !ok || name[bad.Field] == "" {
		return err
	}
	return &catalog.Invalid{Field: name[bad.Field], Text: name[bad.Field] + strings.TrimPrefix(bad.Text, bad.Field)}
}

func (in newRollout) set() (migrations.Set, error) {
	if in.Stream != string(catalog.StreamProduct) {
		return migrations.Set{}, rest.Bad("files", "Only the product's migrations are given; Freehold's own are in its binary.")
	}
	if len(in.Files) > maxFiles {
		return migrations.Set{}, rest.Bad("files", fmt.Sprintf("At most %d files.", maxFiles))
	}
	files := make([]migrations.File, 0, len(in.Files))
	for _, f := range in.Files {
		files = append(files, migrations.File{Name: f.Name, Body: f.Body})
	}
	set, err := migrations.Given(files)
	if err != nil {
		return set, rest.Bad("files", err.Error())
	}
	return set, nil
}

// lintPending refuses mistakes in those of the product's migrations that somebody
// lacks. Freehold's own were linted before they were released.
func lintPending(plan fleet.Plan) error {
	if plan.Stream != catalog.StreamProduct {
		return nil
	}
	all, err := plan.History()
	if err != nil {
		return err
	}
	findings, err := lint.Check(all, lint.Options{Stream: lint.StreamProduct})
	if err != nil {
		return err
	}
	var wrong []string
	for _, f := range findings {
		pending := slices.ContainsFunc(plan.Files, func(m migrations.File) bool { return m.Name == f.File })
		if pending && f.Severity == lint.Error {
			wrong = append(wrong, fmt.Sprintf("%s:%d: %s: %s", f.File, f.Line, f.Rule, f.Why))
		}
	}
	if wrong != nil {
		return rest.Bad("files", strings.Join(wrong, "\n"))
	}
	return nil
}
