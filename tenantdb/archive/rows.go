package archive

import (
	"bytes"
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
)

// partBytes is how much of a table's rows an entry holds, of one whose rows aren't
// longer: an archive wants lengths before contents.
const partBytes = 8 << 20

// parts collects a table's rows into entries.
type parts struct {
	w     *writer
	table Table
	buf   *bytes.Buffer // shared by all tables
	n     int           // entries
	rows  int64         // in buf
}

// line adds a row. Line breaks in it can only stand between tokens: text in JSON has
// none.
func (p *parts) line(row, exact []byte) error {
	more := len(row) + len(exact) + len(asWritten) + 8
	if p.rows > 0 && p.buf.Len()+more > partBytes {
		if err := p.flush(); err != nil {
			return err
		}
	}
	begin := p.buf.Len()
	if exact == nil {
		p.buf.Write(row)
	} else {
		p.buf.Write(row[:len(row)-1])
		fmt.Fprintf(p.buf, `,"%s":%s}`, asWritten, exact)
	}
	line := p.buf.Bytes()[begin:]
	for i, c := range line {
		if c == '\n' || c == '\r' {
			line[i] = ' '
		}
	}
	p.buf.WriteByte('\n')
	p.rows++
	return nil
}

func (p *parts) flush() error {
	if p.rows == 0 {
		return nil
	}
	p.n++
	e := Entry{Path: fmt.Sprintf("tables/%s/%05d.jsonl", safe(p.table.Schema+"."+p.table.Name), p.n), Table: p.table.String(), Rows: p.rows}
	err := p.w.add(e, int64(p.buf.Len()), bytes.NewReader(p.buf.Bytes()))
	p.buf.Reset()
	if p.buf.Cap() > 4*partBytes { // one very long row is no reason to keep so much
		*p.buf = bytes.Buffer{}
	}
	p.rows = 0
	return err
}

// rows writes all rows of a table, as they come, and returns how many.
func (w *writer) rows(ctx context.Context, tx pgx.Tx, t Table, buf *bytes.Buffer, count func(n int64)) (total int64, err error) {
	reading, stop := context.WithCancel(ctx)
	rows, err := tx.Query(reading, t.query())
	if err != nil {
		stop()
		return 0, tenantdb.Translate(ctx, err)
	}
	defer rows.Close()
	defer stop() // first: closing would read what is left of the table
	p := &parts{w: w, table: t, buf: buf}
	for rows.Next() {
		raw := rows.RawValues() // text in both of the protocol's formats
		if err := p.line(raw[0], raw[1]); err != nil {
			return 0, err
		}
		total++
		count(1)
	}
	if err := rows.Err(); err != nil {
		return 0, tenantdb.Translate(ctx, err)
	}
	return total, p.flush()
}
