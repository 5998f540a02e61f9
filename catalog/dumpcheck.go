package catalog

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// CheckDump reads a dump to its end and sees to it that it is whole. Errors as
// Load's.
func CheckDump(r io.Reader) (DumpHeader, error) { return readDump(r, true) }

// ReadDumpHeader reads what a dump says of itself, and no more.
func ReadDumpHeader(r io.Reader) (DumpHeader, error) { return readDump(r, false) }

func readDump(r io.Reader, whole bool) (header DumpHeader, err error) {
	in := &dumpReader{r: r}
	text, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1))
	if err != nil {
		return header, in.refuse(err)
	}
	defer text.Close()
	values := json.NewDecoder(text)
	if err := values.Decode(&header); err != nil || header.Format != dumpFormat {
		return header, in.refuse(err)
	}
	rows := int64(0)
	for ended := !whole; !ended; {
		var value json.RawMessage
		if err := values.Decode(&value); err != nil {
			return header, in.refuse(err)
		}
		if value[0] == '{' {
			rows++
			continue
		}
		mark, err := readDumpMark(value)
		if err != nil || mark.what == markEnd && mark.rows != rows {
			return header, in.refuse(err)
		}
		ended = mark.what == markEnd
	}
	if whole {
		return header, in.atEnd(values)
	}
	return header, nil
}

// What a mark can be.
const (
	markTable = "table"
	markEnd   = "end"
)

// dumpMark is a line of a dump that is no row.
type dumpMark struct {
	what    string
	table   string
	columns []string
	rows    int64 // behind all
}

var errNoMark = errors.New("not a mark")

func readDumpMark(value json.RawMessage) (m dumpMark, err error) {
	var parts []json.RawMessage
	into := []any{&m.what}
	if err = json.Unmarshal(value, &parts); err == nil && len(parts) > 0 {
		err = json.Unmarshal(parts[0], &m.what)
	}
	switch m.what {
	case markTable:
		into = append(into, &m.table, &m.columns)
	case markEnd:
		into = append(into, &m.rows)
	}
	if err != nil || len(into) < 2 || len(parts) != len(into) {
		return m, errNoMark
	}
	for i, part := range parts {
		if err := json.Unmarshal(part, into[i]); err != nil {
			return m, err
		}
	}
	return m, nil
}
