package archive

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
)

// Put stores an object under the tenant's prefix.
type Put func(ctx context.Context, key string, r io.Reader) error

// Import brings an archive into a tenant's database that is migrated and otherwise
// empty: it makes the product's tables, copies all rows, then makes keys, indexes and
// triggers, in one transaction of conn, which is the database's owner's. put, which
// may be nil, is given the objects' bytes as they come: when Import fails after that,
// what it stored is of no use. The archive's SQL is run as it is: import what comes
// from a platform that you trust.
//
// Rows are as they were, to the last digit, but for those of Freehold's own tables
// that aren't in an archive: the database keeps its own identity and counters.
// ErrBroken, ErrNotEmpty, ErrUnfit; put's and tenantdb's errors.
func Import(ctx context.Context, conn *pgx.Conn, r io.Reader, put Put) (m Manifest, err error) {
	if _, err := conn.Exec(ctx, settle, pgx.QueryExecModeSimpleProtocol); err != nil {
		return m, tenantdb.Translate(ctx, err)
	}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		i := &importing{tx: tx, put: put, tables: map[string]*target{}}
		if m, err = Read(ctx, r, i.entry); err != nil {
			return err
		}
		return i.end(ctx, m)
	})
	if err != nil {
		return Manifest{}, tenantdb.Translate(ctx, err)
	}
	return m, nil
}

type importing struct {
	tx     pgx.Tx
	put    Put
	tables map[string]*target
	after  []byte // definitions for when the rows are in
}

// target is a table that rows are brought into. Its columns are the database's: what
// the archive says of types is never run.
type target struct {
	Table
	named  []Column // of the archive
	insert string   // empty: not made yet
}

func (i *importing) entry(ctx context.Context, e Entry, r io.Reader) error {
	switch {
	case e.Path == aboutPath:
		return i.about(ctx, r)
	case e.Path == schemaPath:
		text, err := readSQL(r)
		if err == nil {
			err = i.define(ctx, text)
		}
		return err
	case e.Path == constraintsPath:
		text, err := readSQL(r)
		i.after = text
		return err
	case e.Table != "":
		t := i.tables[e.Table]
		if t == nil {
			return broken(e.Path)
		}
		return i.rows(ctx, t, r)
	case e.Object != "" && i.put != nil:
		return i.put(ctx, e.Object, r)
	}
	return nil
}

func readSQL(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSQL+1))
	if err == nil && len(text) > maxSQL {
		err = errDefinitions
	}
	return text, err
}

// about refuses what has no place, before anything is done.
func (i *importing) about(ctx context.Context, r io.Reader) error {
	var about About
	if err := decode(r, &about); err != nil {
		return err
	}
	if about.Format != Format {
		return fmt.Errorf("%w: its format is %d, this binary reads %d", ErrUnfit, about.Format, Format)
	}
	have, _, err := relations(ctx, i.tx)
	if err != nil {
		return err
	}
	for _, t := range about.Tables {
		i.tables[t.String()] = &target{Table: Table{Schema: t.Schema, Name: t.Name}, named: t.Columns}
		there := slices.ContainsFunc(have, func(h Table) bool { return h.Schema == t.Schema && h.Name == t.Name })
		switch {
		case t.Schema != freehold && there:
			return fmt.Errorf("%w: there is a table %s", ErrNotEmpty, t)
		case t.Schema != freehold:
			continue
		case !there:
			return fmt.Errorf("%w: there is no table %s", ErrUnfit, t)
		}
		var filled bool
		if err := i.tx.QueryRow(ctx, "select exists (select from "+t.ident()+")").Scan(&filled); err != nil {
			return err
		}
		if filled {
			return fmt.Errorf("%w: %s has rows", ErrNotEmpty, t)
		}
	}
	return nil
}

// define runs SQL of many statements.
func (i *importing) define(ctx context.Context, text []byte) error {
	// A newer pg_dump sets what an older server doesn't know.
	var sql []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "SET transaction_timeout") {
			sql = append(sql, line)
		}
	}
	_, err := i.tx.Conn().PgConn().Exec(ctx, strings.Join(sql, "")).ReadAll()
	return err
}

// rowsAtOnce and bytesAtOnce bound what a statement inserts.
const (
	rowsAtOnce  = 500
	bytesAtOnce = 4 << 20
)

func (i *importing) rows(ctx context.Context, t *target, r io.Reader) error {
	if t.insert == "" {
		if err := i.prepare(ctx, t); err != nil {
			return err
		}
	}
	lines := bufio.NewReaderSize(r, 1<<20)
	var batch []string
	size := 0
	insert := func() error {
		if len(batch) == 0 {
			return nil
		}
		tag, err := i.tx.Exec(ctx, t.insert, batch)
		if err == nil && tag.RowsAffected() != int64(len(batch)) {
			err = fmt.Errorf("%w: %s took %d of %d rows", ErrUnfit, t, tag.RowsAffected(), len(batch))
		}
		batch, size = batch[:0], 0
		return err
	}
	for {
		line, err := lines.ReadBytes('\n')
		if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > 0 {
			batch, size = append(batch, string(line)), size+len(line)
		}
		if len(batch) == rowsAtOnce || size > bytesAtOnce || errors.Is(err, io.EOF) {
			if ierr := insert(); ierr != nil {
				return ierr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// prepare makes the statement that brings lines of a table in.
func (i *importing) prepare(ctx context.Context, t *target) error {
	cols, err := columns(ctx, i.tx, t.Table)
	if err != nil {
		return err
	}
	var names, values []string
	for _, c := range t.named {
		at := slices.IndexFunc(cols, func(h Column) bool { return h.Name == c.Name })
		if at < 0 {
			return fmt.Errorf("%w: %s has no column %q", ErrUnfit, t, c.Name)
		}
		if cols[at].Generated {
			continue
		}
		name := pgx.Identifier{c.Name}.Sanitize()
		value := "p." + name
		if cols[at].exact != exactAlways && cols[at].exact != exactText {
			value = "coalesce((l.line::json #>> array[" + literal(asWritten) + ", " + literal(c.Name) + "])::" + cols[at].Type + ", " + value + ")"
		}
		names, values = append(names, name), append(values, value)
	}
	const from = `
  from unnest($1::text[]) with ordinality as l (line, n) cross join lateral json_populate_record(null::`
	if len(names) == 0 {
		t.insert = "insert into " + t.ident() + " select" + from + t.ident() + ", l.line::json) p order by l.n"
		return nil
	}
	t.insert = "insert into " + t.ident() + " (" + strings.Join(names, ", ") + ") overriding system value select " +
		strings.Join(values, ", ") + from + t.ident() + ", l.line::json) p order by l.n"
	return nil
}

const setSequence = `select setval($1::text::regclass, $2)`

// end finishes what can only be once all rows are in.
func (i *importing) end(ctx context.Context, m Manifest) error {
	if i.after != nil {
		if err := i.define(ctx, i.after); err != nil {
			return err
		}
	}
	for _, s := range m.Sequences {
		if _, err := i.tx.Exec(ctx, setSequence, pgx.Identifier{s.Schema, s.Name}.Sanitize(), s.Last); err != nil {
			return err
		}
	}
	// Definitions have set what a session's next user doesn't expect.
	_, err := i.tx.Exec(ctx, "reset all")
	return err
}
