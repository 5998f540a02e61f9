package archive

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
	"freehold/tenantdb/blob"
)

// Source is what an archive is made from. All but Objects and Progress are required.
type Source struct {
	Meta // MadeAt and Postgres are the database's to say

	// Conn is to the tenant's database, as its owner, and of no other use meanwhile.
	Conn *pgx.Conn
	// Objects is the tenant's prefix; nil: there is no object store.
	Objects *blob.Objects
	// Definitions writes a section of the definitions of all that isn't Freehold's own,
	// as pg_dump names sections, as SQL, as of an exported snapshot.
	Definitions func(ctx context.Context, w io.Writer, snapshot, section string) error
	// Progress is told, by one goroutine, how far the writing is.
	Progress func(Totals)
}

// Write writes an archive of all that a tenant has: rows as of one moment, and the
// bytes of the files and models of that moment. What was removed from the store
// meanwhile is named in the manifest as left out. It takes some 20 MB of memory, as
// much as the longest row, and a few hundred bytes a file.
//
// The rows are read in one snapshot: as long as that takes, which is hours where
// there is very much, the database's vacuum clears nothing away that was deleted
// since, tables can't be changed, and migrations wait. Objects are read after it.
// Errors: ErrStore, Definitions', w's, tenantdb's.
func Write(ctx context.Context, w io.Writer, src Source) (Totals, error) {
	a := &writing{Source: src}
	if a.Progress == nil {
		a.Progress = func(Totals) {}
	}
	var own []object
	err := a.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
		if a.out, err = newWriter(w, a.MadeAt); err == nil {
			own, err = a.rows(ctx, tx)
		}
		return err
	})
	if a.out == nil {
		return a.total, err
	}
	if err == nil {
		err = a.objects(ctx, own)
	}
	if err != nil {
		a.out.abandon()
		return a.total, err
	}
	return a.total, a.out.close()
}

type writing struct {
	Source

	out    *writer
	total  Totals
	moment string // the exported snapshot's name
	about  About
	stay   []LeftOut
}

// A snapshot may be open for hours, and wait for the object store in between. The
// texts of values must be the same on every server. Policies would hide rows.
const settle = `
set statement_timeout = 0; set idle_in_transaction_session_timeout = 0; set lock_timeout = '30s';
set tcp_user_timeout = '10min'; set row_security = off; set search_path = '';
set timezone = 'UTC'; set datestyle = 'ISO, YMD'; set intervalstyle = 'postgres'; set bytea_output = 'hex';
set extra_float_digits = 1; set xmloption = 'content'`

const (
	// Migrations take it alone: it is better that they wait for it than that everybody
	// waits behind them.
	shareMigrations   = `select pg_advisory_lock_shared($1)`
	unshareMigrations = `select pg_advisory_unlock_shared($1)`
	migrationLock     = int64(4097083626) // goose's

	beginMoment = `
select pg_export_snapshot(), now(), current_setting('server_version_num')::int / 10000`

	// momentTries is how often it is looked for while tables are made or dropped.
	momentTries = 5
)

var errOtherTables = fmt.Errorf("%w: tables are made or dropped all the time", tenantdb.ErrUnavailable)

// snapshot runs fn in a transaction that sees one moment, at which the tables are as
// they are now: they are locked before it, since no snapshot has their definitions.
func (a *writing) snapshot(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	if _, err := a.Conn.Exec(ctx, settle, pgx.QueryExecModeSimpleProtocol); err != nil {
		return tenantdb.Translate(ctx, err)
	}
	if _, err := a.Conn.Exec(ctx, shareMigrations, migrationLock); err != nil {
		return tenantdb.Translate(ctx, err)
	}
	for try := 1; ; try++ {
		before, _, err := relations(ctx, a.Conn)
		if err != nil {
			return tenantdb.Translate(ctx, err)
		}
		err = pgx.BeginTxFunc(ctx, a.Conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if err := a.look(ctx, tx, before); err != nil {
				return err
			}
			return fn(ctx, tx)
		})
		if errors.Is(err, errOtherTables) && try < momentTries {
			continue
		}
		if err != nil {
			return tenantdb.Translate(ctx, err)
		}
		_, err = a.Conn.Exec(ctx, unshareMigrations, migrationLock)
		return tenantdb.Translate(ctx, err)
	}
}

// look locks the tables that there were before the transaction, and finds out what
// its moment has.
func (a *writing) look(ctx context.Context, tx pgx.Tx, before []Table) error {
	names := make([]string, len(before))
	for i, t := range before {
		names[i] = t.ident()
	}
	if len(names) > 0 {
		if _, err := tx.Exec(ctx, "lock table "+strings.Join(names, ", ")+" in access share mode"); err != nil {
			return err
		}
	}
	if err := tx.QueryRow(ctx, beginMoment).Scan(&a.moment, &a.MadeAt, &a.Postgres); err != nil {
		return err
	}
	a.MadeAt = a.MadeAt.UTC()
	list, stay, err := relations(ctx, tx)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(before, list, func(a, b Table) bool { return a.ident() == b.ident() }) {
		return errOtherTables
	}
	for i := range list {
		if list[i].Columns, err = columns(ctx, tx, list[i]); err != nil {
			return err
		}
	}
	a.about, a.stay = About{Format: Format, Meta: a.Meta, Tables: list}, stay
	return nil
}

// object is one of the store's that goes along.
type object struct {
	key, path, name string
	size            int64
	sum             string // hex, where it is known
}

// rows writes what comes before the objects, and returns what those are.
func (a *writing) rows(ctx context.Context, tx pgx.Tx) ([]object, error) {
	a.out.man.About, a.out.man.LeftOut = a.about, a.stay
	if err := a.large(ctx, tx); err != nil {
		return nil, err
	}
	product := slices.ContainsFunc(a.out.man.Tables, func(t Table) bool { return t.Schema != freehold })
	if err := a.begin(ctx, product); err != nil {
		return nil, err
	}
	buf := bytes.NewBuffer(make([]byte, 0, partBytes))
	for i := range a.out.man.Tables {
		t := &a.out.man.Tables[i]
		n, err := a.out.rows(ctx, tx, *t, buf, func(n int64) {
			if a.total.Rows += n; a.total.Rows%1000 == 0 {
				a.Progress(a.total)
			}
		})
		if err != nil {
			return nil, err
		}
		t.Rows = n
		a.total.Tables++
		a.Progress(a.total)
	}
	if product {
		if err := a.define(ctx, constraintsPath, "post-data"); err != nil {
			return nil, err
		}
	}
	var err error
	if a.out.man.Sequences, err = sequences(ctx, tx); err != nil {
		return nil, err
	}
	return a.listObjects(ctx, tx)
}

// large notes that large objects stay: they are in no table.
func (a *writing) large(ctx context.Context, tx pgx.Tx) error {
	var n int64
	if err := tx.QueryRow(ctx, countLargeObjects).Scan(&n); err != nil {
		return err
	}
	if n > 0 {
		a.out.leaveOut("large objects", fmt.Sprintf("%d of them, which belong to no table", n))
	}
	return nil
}

// begin writes what goes before the rows.
func (a *writing) begin(ctx context.Context, product bool) error {
	if err := a.out.text(readmePath, readme); err != nil {
		return err
	}
	if err := a.out.json(aboutPath, a.out.man.About); err != nil {
		return err
	}
	if !product {
		return nil
	}
	return a.define(ctx, schemaPath, "pre-data")
}

// define writes a section of definitions. pg_dump guards what psql reads by two
// commands of psql's own, which are no SQL.
func (a *writing) define(ctx context.Context, path, section string) error {
	var text bytes.Buffer
	if err := a.Definitions(ctx, &bounded{&text, maxSQL}, a.moment, section); err != nil {
		return err
	}
	var sql bytes.Buffer
	for line := range bytes.Lines(text.Bytes()) {
		if !bytes.HasPrefix(line, []byte(`\restrict `)) && !bytes.HasPrefix(line, []byte(`\unrestrict `)) {
			sql.Write(line)
		}
	}
	return a.out.text(path, sql.String())
}

// bounded is a writer that takes no more than so many bytes.
type bounded struct {
	w    io.Writer
	left int
}

var errDefinitions = errors.New("archive: the definitions of the tables are longer than 64 MB")

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errDefinitions
	}
	return b.w.Write(p)
}

const (
	selectFiles = `
select f.id, f.name, f.bytes, coalesce(f.sha256, '') as sum, f.state = 'processed' as whole
  from freehold.files f order by f.id`
	selectModels = `
select m.artifact from freehold.models m where m.artifact <> '' and m.state = 'ready' order by m.id`
)

// listObjects lists the files' objects and those of models' artifacts.
func (a *writing) listObjects(ctx context.Context, tx pgx.Tx) (list []object, err error) {
	has := func(name string) bool {
		return slices.ContainsFunc(a.out.man.Tables, func(t Table) bool { return t.Schema == freehold && t.Name == name })
	}
	if !has("files") || !has("models") { // an older release's schema
		return nil, nil
	}
	rows, err := tx.Query(ctx, selectFiles)
	if err != nil {
		return nil, err
	}
	type file struct {
		ID    uuid.UUID
		Name  string
		Bytes int64
		Sum   []byte
		Whole bool
	}
	_, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f file, err error) {
		if err = row.Scan(&f.ID, &f.Name, &f.Bytes, &f.Sum, &f.Whole); err != nil {
			return f, err
		}
		key := "files/" + f.ID.String()
		if !f.Whole {
			a.out.leaveOut(key, "it was being uploaded, or removed")
			return f, nil
		}
		list = append(list, object{key: key, path: key + "-" + safe(f.Name), name: f.Name, size: f.Bytes, sum: hex.EncodeToString(f.Sum)})
		return f, nil
	})
	if err != nil {
		return nil, err
	}
	if rows, err = tx.Query(ctx, selectModels); err != nil {
		return nil, err
	}
	prefixes, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for _, p := range prefixes {
		list = append(list, object{key: p, size: -1})
	}
	return list, err
}
