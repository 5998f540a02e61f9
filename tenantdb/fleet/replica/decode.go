package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// A decoder reads what the plugin pgoutput writes, version 1 of its protocol
// (https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html),
// and keeps of each change whose row it was.
type decoder struct {
	relations map[uint32]relation
	commit    uint64 // where the current transaction's commit lies
	changed   func(table string, key rowKey, commit uint64)
	whole     func(table string, commit uint64) // who knows what changed in it
}

type relation struct {
	name string // quoted, with its schema
	key  []int  // places of the columns of its replica identity; none: it isn't a key
}

// rowKey is the values of a row's key as texts, in the order of the table's columns.
type rowKey string

// A text can't hold it.
const keySeparator = "\x00"

func makeKey(values []string) rowKey { return rowKey(strings.Join(values, keySeparator)) }

func (k rowKey) values() []string { return strings.Split(string(k), keySeparator) }

var errMessage = errors.New("a message of pgoutput can't be read")

// take reads one message.
func (d *decoder) take(message []byte) error {
	r := &reader{rest: message}
	kind := r.byte()
	switch kind {
	case 'B':
		d.commit = r.uint64()
	case 'R':
		d.relation(r)
	case 'I', 'U', 'D':
		d.change(r)
	case 'T':
		n := r.uint32()
		r.byte()
		for i := uint32(0); i < n && !r.short; i++ {
			if rel, ok := d.relations[r.uint32()]; ok {
				d.whole(rel.name, d.commit)
			} else {
				r.short = true
			}
		}
	}
	if r.short {
		return fmt.Errorf("%w: %q", errMessage, kind)
	}
	return nil
}

func (d *decoder) relation(r *reader) {
	id := r.uint32()
	schema, name := r.text(), r.text()
	byKey := r.byte() != 'f' // where the whole row is its identity, each column counts as part of it
	rel := relation{name: Table{Schema: schema, Name: name}.String()}
	n := int(r.uint16())
	for i := 0; i < n && !r.short; i++ {
		const partOfKey = 1
		if r.byte()&partOfKey != 0 && byKey {
			rel.key = append(rel.key, i)
		}
		r.text()
		r.uint32()
		r.uint32()
	}
	if !r.short {
		d.relations[id] = rel
	}
}

// change takes the row's key before and after.
func (d *decoder) change(r *reader) {
	rel, ok := d.relations[r.uint32()]
	if !ok {
		r.short = true
		return
	}
	for !r.short && len(r.rest) > 0 {
		r.byte() // K, O: before; N: after
		row := r.row()
		if r.short {
			return
		}
		if key, known := rel.keyOf(row); known {
			d.changed(rel.name, key, d.commit)
		} else {
			d.whole(rel.name, d.commit)
		}
	}
}

func (rel relation) keyOf(row [][]byte) (key rowKey, known bool) {
	if len(rel.key) == 0 {
		return "", false
	}
	var values []string
	for _, at := range rel.key {
		if at >= len(row) || row[at] == nil {
			return "", false
		}
		values = append(values, string(row[at]))
	}
	return makeKey(values), true
}

// reader reads numbers in network order. It gives zeros once a message was too short.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) bytes(n int) []byte {
	if r.short || n < 0 || n > len(r.rest) {
		r.short = true
		return make([]byte, min(max(n, 0), 8))
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte     { return r.bytes(1)[0] }
func (r *reader) uint16() uint16 { return binary.BigEndian.Uint16(r.bytes(2)) }
func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.bytes(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.bytes(8)) }

// text reads up to a zero byte.
func (r *reader) text() string {
	before, after, found := bytes.Cut(r.rest, []byte{0})
	if !found {
		r.short = true
		return ""
	}
	r.rest = after
	return string(before)
}

// row reads a row's values: nil for one that is null, or unchanged and not sent.
func (r *reader) row() [][]byte {
	n := int(r.uint16())
	var row [][]byte
	for i := 0; i < n && !r.short; i++ {
		var value []byte
		switch r.byte() {
		case 't':
			value = r.bytes(int(r.uint32()))
		case 'n', 'u':
		default:
			r.short = true
		}
		row = append(row, value)
	}
	return row
}
