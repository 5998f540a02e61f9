package replica

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Sum stands for what a table holds, whatever the order of its rows.
type Sum struct {
	Rows int64  `json:"rows"`
	Hash string `json:"hash"` // decimal: the sum of the 64-bit hashes of the rows' texts
}

// settings make a value's text the same on every server. row_security: whose policy
// would hide rows gets an error, not fewer rows.
const settle = `
select set_config(s, v, false)
  from (values ('timezone', 'UTC'), ('datestyle', 'ISO, YMD'), ('intervalstyle', 'postgres'), ('extra_float_digits', '1'),
               ('bytea_output', 'hex'), ('xmloption', 'content'), ('lc_monetary', 'C'), ('search_path', 'pg_catalog'),
               ('row_security', 'off'), ('statement_timeout', '0'), ('jit', 'off')) as u (s, v)`

// Settle sets a session up so that values have the same text on every server: sums
// are compared between sessions that were settled. It lasts as long as the session.
//
// Since Postgres 15 the texts of the types it comes with have not changed between
// majors. Not comparable are columns that hold a server's own numbers (oid, xid, cid,
// tid) and, after a restore into a database of another collation version, nothing else:
// texts are hashed by their bytes. A type of an extension is as stable as that is.
func Settle(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, settle); err != nil {
		return fmt.Errorf("settle session: %w", err)
	}
	return nil
}

// rowHash is a row's hash; the row is called t.
const rowHash = `hashtextextended((t.*)::text collate "C", 0)`

// SumOf reads a whole table.
func SumOf(ctx context.Context, q Querier, t Table) (s Sum, err error) {
	err = q.QueryRow(ctx, "select count(*), coalesce(sum("+rowHash+"), 0)::text from only "+t.String()+" as t").Scan(&s.Rows, &s.Hash)
	if err != nil {
		return s, fmt.Errorf("sum %s: %w", t, err)
	}
	return s, nil
}

// Sums is SumOf for each of the tables, by Table.String.
func Sums(ctx context.Context, q Querier, tables []Table) (map[string]Sum, error) {
	sums := make(map[string]Sum, len(tables))
	for _, t := range tables {
		s, err := SumOf(ctx, q, t)
		if err != nil {
			return nil, err
		}
		sums[t.String()] = s
	}
	return sums, nil
}
