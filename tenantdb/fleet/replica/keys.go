package replica

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// keysAtOnce are asked for in one statement.
const keysAtOnce = 5_000

// rowsOf returns the hashes of those of the rows that there are.
func rowsOf(ctx context.Context, q Querier, t Table, keys []rowKey) (map[rowKey]int64, error) {
	found := make(map[rowKey]int64, len(keys))
	sql := selectRows(t)
	for part := range slices.Chunk(keys, keysAtOnce) {
		columns := make([][]string, len(t.Key))
		for _, k := range part {
			for i, v := range k.values() {
				columns[i] = append(columns[i], v)
			}
		}
		args := make([]any, len(columns))
		for i, c := range columns {
			args[i] = c
		}
		rows, _ := q.Query(ctx, sql, args...)
		var place, hash int64
		_, err := pgx.ForEachRow(rows, []any{&place, &hash}, func() error {
			found[part[place-1]] = hash
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read rows of %s: %w", t, err)
		}
	}
	return found, nil
}

// selectRows looks each row up by its index: "offset 0" keeps the planner from joining.
func selectRows(t Table) string {
	var arrays, names, match []string
	for i, column := range t.Key {
		arrays = append(arrays, fmt.Sprintf("$%d::text[]", i+1))
		names = append(names, fmt.Sprintf("k%d", i))
		match = append(match, fmt.Sprintf("t.%s = u.k%d::%s", pgx.Identifier{column}.Sanitize(), i, t.Types[i]))
	}
	return "select u.place, r.hash from unnest(" + strings.Join(arrays, ", ") + ") with ordinality as u (" + strings.Join(names, ", ") + ", place)" +
		" cross join lateral (select " + rowHash + " as hash from only " + t.String() + " as t where " + strings.Join(match, " and ") + " offset 0) as r"
}

// both does the same on both sides at once.
func both[T any](ctx context.Context, source, target Querier, do func(context.Context, Querier) (T, error)) (s, t T, err error) {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) { s, err = do(ctx, source); return err })
	group.Go(func() (err error) { t, err = do(ctx, target); return err })
	return s, t, group.Wait()
}

// unequal are those of the rows that aren't the same on both sides.
func unequal(ctx context.Context, source, target Querier, t Table, keys []rowKey) ([]rowKey, error) {
	s, o, err := both(ctx, source, target, func(ctx context.Context, q Querier) (map[rowKey]int64, error) {
		return rowsOf(ctx, q, t, keys)
	})
	if err != nil || maps.Equal(s, o) {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(keys), func(k rowKey) bool {
		sh, sok := s[k]
		oh, ook := o[k]
		return sh == oh && sok == ook
	}), nil
}
