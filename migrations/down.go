package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// Down takes back the migrations of the set above version to, the newest first, each
// with its Down section, under the same lock and settings as Apply. What they made is
// gone, with all that was written to it. A database that is at to, or below, is left
// as it is.
//
// ErrNoDown, before anything is done, when one of them has no statements to take it
// back or isn't in the set; it is ErrAhead too when the database is ahead of the set.
// A failure on the way is an *Error.
func (o Options) Down(ctx context.Context, cfg *pgx.ConnConfig, s Set, to int64) (Result, error) {
	began := time.Now()
	result, err := o.down(ctx, cfg, s, to)
	result.Took = time.Since(began)
	if err != nil {
		return result, fmt.Errorf("take back %s migrations: %w", s.Name, err)
	}
	return result, nil
}

func (o Options) down(ctx context.Context, cfg *pgx.ConnConfig, s Set, to int64) (result Result, err error) {
	if to < 0 {
		return result, errors.New("version is below 0")
	}
	all, err := s.list()
	if err != nil {
		return result, err
	}
	r, err := o.open(ctx, cfg, s)
	if err != nil {
		return result, err
	}
	defer r.close()
	result.From, result.To = r.version(), r.version()
	back, err := r.back(all, to)
	if err != nil || len(back) == 0 {
		return result, err
	}
	provider, err := r.provider(ctx)
	if err != nil {
		return result, err
	}
	for i, m := range back {
		if i > 0 {
			if err := r.reset(ctx); err != nil {
				return result, r.failure(m, err)
			}
		}
		began := time.Now()
		if _, err := provider.ApplyVersion(ctx, m.version, false); err != nil {
			return result, r.failure(m, err)
		}
		result.To = 0
		if below := r.applied[i+1:]; len(below) > 0 {
			result.To = below[0]
		}
		result.add(m, time.Since(began))
		r.at(pointApplied)
	}
	return result, nil
}

// back are the migrations that the database has above a version, the newest first.
func (r *run) back(all []numbered, to int64) (back []numbered, err error) {
	var wrong []error
	for _, version := range r.applied {
		if version <= to {
			break
		}
		i := slices.IndexFunc(all, func(m numbered) bool { return m.version == version })
		if i < 0 {
			err := fmt.Errorf("%w: version %d is not among the files", ErrNoDown, version)
			if len(all) == 0 || version > all[len(all)-1].version {
				err = fmt.Errorf("%w (%w)", err, ErrAhead)
			}
			wrong = append(wrong, err)
			continue
		}
		body, err := r.set.read(all[i].name)
		if err != nil {
			return nil, err
		}
		sql, err := parseScript(all[i].name, body)
		if err != nil {
			return nil, &Error{Version: version, File: all[i].name, Err: err}
		}
		if len(sql.down) == 0 {
			wrong = append(wrong, fmt.Errorf("%w: %s has no statement in its Down section", ErrNoDown, all[i].name))
		}
		back = append(back, all[i])
	}
	return back, errors.Join(wrong...)
}
