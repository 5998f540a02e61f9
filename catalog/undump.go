package catalog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/klauspost/compress/zstd"

	"freehold/migrations"
)

// RestoreChore is the chore that is failed from Load to EndRestore; its error is
// the name of what was loaded.
const RestoreChore = "catalog-restore"

// Rows are inserted so many at a time, or so many bytes.
const (
	loadRows  = 500
	loadBytes = 1 << 20
)

// Load fills this catalog, which must be migrated and empty (else ErrConflict), with
// a dump: all of it, or nothing. from is the dump's name, which RestoreChore keeps
// until EndRestore: till then no tenant is served that has changed since the dump.
// A dump of a newer schema is ErrConflict, one of an older is taken, later columns
// with their defaults. ErrInvalid for what is no dump, ErrWrongMasterKey, and what
// r answers. Its memory doesn't grow with the dump.
//
// Operations that were waiting or running come back as failed, but for deletions
// that wait. Till EndRestore no worker takes any. Rollouts that were running come
// back halted.
func (c *Catalog) Load(ctx context.Context, r io.Reader, from string) (DumpHeader, error) {
	in := &dumpReader{r: r}
	// One at a time: no goroutines that would read on behind a refusal.
	text, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return DumpHeader{}, in.refuse(err)
	}
	defer text.Close()
	conn, err := c.connectBulk(ctx)
	if err != nil {
		return DumpHeader{}, wrap("load catalog", err)
	}
	defer closeConn(ctx, conn)
	l := &loader{catalog: c, in: in, values: json.NewDecoder(text), from: from}
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		l.tx = tx
		return l.run(ctx)
	})
	switch {
	case err != nil && in.err != nil:
		return l.header, fmt.Errorf("load catalog: read: %w", in.err)
	case err != nil:
		return l.header, wrap("load catalog", err)
	}
	return l.header, nil
}

// dumpReader remembers how its source failed, whoever asked.
type dumpReader struct {
	r   io.Reader
	err error // not an end
}

func (d *dumpReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		d.err = err
	}
	return n, err
}

// refuse says what is wrong with a dump that can't be read on: err, if that is ours
// or the source's, and else that it is none.
func (d *dumpReader) refuse(err error) error {
	if d.err != nil {
		return fmt.Errorf("load catalog: read: %w", d.err)
	}
	if err != nil && isOurs(err) {
		return err
	}
	return fmt.Errorf("load catalog: %w", invalid(errors.New("not a dump of a catalog, or a broken one")))
}

// atEnd reads on behind the end: nothing may come there, and only the source's own
// end shows that all of it was true.
func (d *dumpReader) atEnd(values *json.Decoder) error {
	if _, err := values.Token(); !errors.Is(err, io.EOF) || d.err != nil {
		return d.refuse(err)
	}
	return nil
}

type loader struct {
	catalog *Catalog
	tx      pgx.Tx
	in      *dumpReader
	values  *json.Decoder
	from    string

	header DumpHeader
	latest int64  // schema that this binary knows
	insert string // of the table at hand; empty before the first
	left   []string
	batch  bytes.Buffer
	held   int // rows in batch
	rows   int64
}

const (
	// Nobody else fills it meanwhile, and those who read wait for nobody.
	lockEmpty = `lock table servers, tenants in share row exclusive mode`

	failOperations = `
update operations
   set state = 'failed', worker = '', lease_until = null, ended_at = now(),
       error = 'the catalog was restored from a backup taken while this was ' || state
                || ': look at how far it got, then retry or cancel it'
 where state in ('waiting', 'running') and not (state = 'waiting' and kind = 'delete')`

	// Databases may be further than the targets say: who goes on finds that out.
	haltRollouts = `
update rollouts
   set state = 'halted', worker = '', lease_until = null,
       reason = 'the catalog was restored from a backup taken while this was running: resume it, or abort it'
 where state = 'running'`

	// As below, of rollouts and of their targets.
	settleRollouts = `
update rollouts set token = token + 1000 where state in ('halted', 'partial')`
	settleTargets = `
update rollout_targets set claim = claim + 1000
 where rollout in (select id from rollouts where state in ('halted', 'partial'))`

	// A worker of before may still hold a later number than the dump has. A deletion
	// that nobody has taken keeps its 0, which says that it can be taken back.
	settleOperations = `
update operations set token = token + 1000
 where state in ('waiting', 'failed') and (token > 0 or kind <> 'delete')`
)

func (l *loader) run(ctx context.Context) error {
	if err := l.begin(ctx); err != nil {
		return err
	}
	for ended := false; !ended; {
		var value json.RawMessage
		if err := l.values.Decode(&value); err != nil {
			return l.in.refuse(err)
		}
		var err error
		switch {
		case value[0] == '{' && l.insert != "":
			err = l.row(ctx, value)
		case value[0] == '[':
			ended, err = l.mark(ctx, value)
		default:
			err = l.in.refuse(nil)
		}
		if err != nil {
			return err
		}
	}
	if err := l.in.atEnd(l.values); err != nil {
		return err
	}
	// An older schema lacks the tables that came later.
	if len(l.left) > 0 && l.header.Schema == l.latest {
		return l.in.refuse(nil)
	}
	if err := l.checkSeal(ctx); err != nil {
		return err
	}
	for _, sql := range []string{failOperations, settleOperations, haltRollouts, settleRollouts, settleTargets} {
		if _, err := l.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	_, err := l.tx.Exec(ctx, choreFailed, RestoreChore, l.from)
	return err
}

// begin reads the header, and sees to it that the dump and the catalog fit.
func (l *loader) begin(ctx context.Context) error {
	if err := l.values.Decode(&l.header); err != nil {
		return l.in.refuse(err)
	}
	if l.header.Format != dumpFormat || l.header.Schema < 1 {
		return l.in.refuse(nil)
	}
	set := migrations.Catalog()
	latest, err := set.Latest()
	if err != nil {
		return err
	}
	l.latest = latest
	version, err := migrations.Version(ctx, l.tx.Conn(), set)
	if err != nil {
		return err
	}
	if version < latest {
		return fmt.Errorf("load catalog: %w", ErrNotMigrated)
	}
	if l.header.Schema > latest {
		return fmt.Errorf("load catalog: it is of schema %d, this binary knows up to %d: use the freehold that wrote it: %w",
			l.header.Schema, latest, ErrConflict)
	}
	for _, sql := range []string{becomeWriter, lockEmpty} {
		if _, err := l.tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	for _, t := range dumped {
		l.left = append(l.left, t.name)
		if t.had != "" {
			continue
		}
		var some bool
		if err := l.tx.QueryRow(ctx, "select exists (select from "+tableIdent(t.name)+")").Scan(&some); err != nil {
			return err
		}
		if some {
			return fmt.Errorf("load catalog: %s has rows, and only an empty catalog can be filled: %w", t.name, ErrConflict)
		}
	}
	return nil
}

// mark begins a table, or ends the dump.
func (l *loader) mark(ctx context.Context, value json.RawMessage) (ended bool, err error) {
	if err := l.flush(ctx); err != nil {
		return false, err
	}
	m, err := readDumpMark(value)
	switch {
	case err != nil:
	case m.what == markTable:
		return false, l.begins(ctx, m.table, m.columns)
	case m.rows == l.rows:
		return true, nil
	}
	return false, l.in.refuse(err)
}

// begins prepares for a table's rows.
func (l *loader) begins(ctx context.Context, name string, columns []string) error {
	at := slices.Index(l.left, name)
	if at < 0 {
		return l.in.refuse(nil)
	}
	l.left = slices.Delete(l.left, at, at+1)
	have, err := tableColumns(ctx, l.tx, name)
	if err != nil {
		return err
	}
	l.insert = insertRows(name, slices.DeleteFunc(have, func(c string) bool { return !slices.Contains(columns, c) }))
	return nil
}

// insertRows inserts the columns that both the dump and the table have, from rows
// as a JSON array.
func insertRows(name string, columns []string) string {
	var list, sets []string
	for _, c := range columns {
		c = pgx.Identifier{c}.Sanitize()
		list = append(list, c)
		sets = append(sets, c+" = excluded."+c)
	}
	table, names := tableIdent(name), strings.Join(list, ", ")
	sql := "insert into " + table + " (" + names + ") select " + names +
		" from json_populate_recordset(null::" + table + ", $1::text::json)"
	for _, t := range dumped {
		if t.name == name && t.had != "" {
			sql += " on conflict (" + t.had + ") do update set " + strings.Join(sets, ", ")
		}
	}
	return sql
}

func (l *loader) row(ctx context.Context, value json.RawMessage) error {
	if l.held == 0 {
		l.batch.Reset()
		l.batch.WriteByte('[')
	} else {
		l.batch.WriteByte(',')
	}
	l.batch.Write(value)
	l.held++
	l.rows++
	if l.held < loadRows && l.batch.Len() < loadBytes {
		return nil
	}
	return l.flush(ctx)
}

func (l *loader) flush(ctx context.Context) error {
	if l.held == 0 {
		return nil
	}
	l.batch.WriteByte(']')
	l.held = 0
	_, err := l.tx.Exec(ctx, l.insert, pgx.QueryExecModeExec, l.batch.String())
	return err
}

// checkSeal sees to it that the keyset is the one that the dump's secrets are
// sealed with.
func (l *loader) checkSeal(ctx context.Context) error {
	var sealed []byte
	if err := l.tx.QueryRow(ctx, selectSeal).Scan(&sealed); err != nil {
		return err
	}
	return openSeal(l.catalog.keyset, sealed)
}
