package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const maxParallel = 1000

var budgetPattern = regexp.MustCompile(`^([0-9]{1,9}|[0-9]{1,3}(\.[0-9]{1,6})?%)$`)

func (s RolloutSpec) validate() error {
	errs := []error{
		line("actor", s.Actor, maxName),
		within("parallel", s.Options.Parallel, 1, maxParallel),
		within("retries", s.Options.Retries, 0, 1000),
	}
	if s.Stream != StreamFreehold && s.Stream != StreamProduct {
		errs = append(errs, wrong("stream", "want freehold or product"))
	}
	if s.Target < 1 {
		errs = append(errs, wrong("target", "want a version"))
	}
	if len(s.Waves) == 0 {
		errs = append(errs, wrong("waves", "missing"))
	}
	if !validBudget(s.Options.Budget) {
		errs = append(errs, wrong("budget", "want a number, or a per cent of the tenants such as 2%%"))
	}
	for _, f := range s.Files {
		if f.Version < 1 || len(f.Sum) != 32 {
			errs = append(errs, wrong("files", "%s has no version, or no sum", f.Name))
		}
	}
	return invalid(errs...)
}

func validBudget(text string) bool {
	if !budgetPattern.MatchString(text) {
		return false
	}
	share, percent := strings.CutSuffix(text, "%")
	n, err := strconv.ParseFloat(share, 64)
	return err == nil && (!percent || n <= 100)
}

const (
	insertRollout = `
insert into rollouts (id, stream, target, actor, options, deadline, token, worker, lease_until, heartbeat_at)
values ($1, $2, $3, $4, $5, $6, 1, $7, case when $7 <> '' then now() + $8::interval end, case when $7 <> '' then now() end)`

	insertWaves = `
insert into rollout_waves (rollout, n, name, begun_at)
select $1, w.n - 1, w.name, case w.n when 1 then now() end
  from unnest($2::text[]) with ordinality as w (name, n)`

	insertTargets = `
insert into rollout_targets (rollout, tenant, server_id, wave, from_version, version)
select $1, x.tenant, x.server, $2, x.version, x.version
  from unnest($3::uuid[], $4::uuid[], $5::bigint[]) as x (tenant, server, version)`

	openOfStream = ` where r.stream = $1 and r.state in ('running', 'halted', 'partial')`
)

// BeginRollout writes a rollout with its waves and targets, keeps its migrations, and
// says so in operator_audit, in one transaction. Its first wave is begun, and the
// taker leads it, under token 1; nobody does when its Worker is empty.
// Errors: *OpenRollout while another one of the stream is open, *EditedFile, and
// ErrInvalid.
func (c *Catalog) BeginRollout(ctx context.Context, spec RolloutSpec, by Taker) (r Rollout, err error) {
	if err := spec.validate(); err != nil {
		return r, fmt.Errorf("begin rollout: %w", err)
	}
	// Not one of those that begin with the time: people say the first digits of it.
	id := uuid.NewString()
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		if err := writeRollout(ctx, tx, id, spec, by); err != nil {
			return err
		}
		r, err = queryRollout(ctx, tx, ` where r.id = $1`, id)
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == uniqueViolation && pg.ConstraintName == "rollouts_open" {
		if other, err := queryRollout(ctx, c.writer, openOfStream, spec.Stream); err == nil {
			return Rollout{}, fmt.Errorf("begin rollout: %w", &OpenRollout{other})
		}
		return Rollout{}, fmt.Errorf("begin rollout: another one of the stream was open: %w", ErrConflict)
	}
	return r, wrap("begin rollout", err)
}

func writeRollout(ctx context.Context, tx pgx.Tx, id string, spec RolloutSpec, by Taker) error {
	var deadline *time.Time
	if !spec.Deadline.IsZero() {
		deadline = &spec.Deadline
	}
	if _, err := tx.Exec(ctx, bulkTimeouts); err != nil {
		return err
	}
	// First: of two at once the second waits here, and is refused.
	_, err := tx.Exec(ctx, insertRollout, id, spec.Stream, spec.Target, spec.Actor, spec.Options, deadline, by.Worker, by.Lease)
	if err != nil {
		return err
	}
	if err := recordFiles(ctx, tx, spec.Stream, spec.Files); err != nil {
		return err
	}
	var batch pgx.Batch
	names, targets := make([]string, len(spec.Waves)), 0
	for i, w := range spec.Waves {
		names[i] = w.Name
		targets += len(w.Targets)
	}
	batch.Queue(insertWaves, id, names)
	for i, w := range spec.Waves {
		if len(w.Targets) > 0 {
			queueTargets(&batch, id, i, w.Targets)
		}
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	return auditRollout(ctx, tx, spec.Actor, "rollout.begin", map[string]any{
		"rollout": id, "stream": spec.Stream, "target": spec.Target, "tenants": targets, "waves": len(spec.Waves),
	})
}

func queueTargets(batch *pgx.Batch, id string, wave int, list []TargetSpec) {
	tenants, servers, versions := make([]TenantID, len(list)), make([]string, len(list)), make([]int64, len(list))
	for i, t := range list {
		tenants[i], servers[i], versions[i] = t.Tenant, t.Server, t.From
	}
	batch.Queue(insertTargets, id, wave, tenants, servers, versions)
}

// auditRollout adds what a person did to a rollout to operator_audit.
func auditRollout(ctx context.Context, tx pgx.Tx, actor, action string, detail map[string]any) error {
	text, err := json.Marshal(detail)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, appendAudit, actor, action, nil, text)
	return err
}
