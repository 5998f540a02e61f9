package catalog

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// AuditCheck is what reading the operators' audit back has shown. A chain can't
// tell that its last rows are missing: who has noted an earlier Head can.
type AuditCheck struct {
	OK     bool   `json:"ok"`
	Rows   int64  `json:"rows"`              // that fit, before the first that doesn't
	BadSeq int64  `json:"bad_seq,omitempty"` // the first row that doesn't fit
	Why    string `json:"why,omitempty"`     // and why
	Seq    int64  `json:"seq"`               // the last row that fits
	Head   string `json:"head"`              // and its hash, in hex
}

// chain follows a chain of rows from its beginning. Each row's hash is
// sha256(hash of the row before it || payload); the first follows 32 zero bytes.
type chain struct {
	seq  int64
	hash [sha256.Size]byte
}

// add says why a row can't be the next one; "" when it is.
func (c *chain) add(seq int64, prev, hash []byte, payload string) (why string) {
	switch {
	case seq != c.seq+1:
		return fmt.Sprintf("row %d follows row %d: rows between were removed, or this one was inserted", seq, c.seq)
	case !bytes.Equal(prev, c.hash[:]):
		return fmt.Sprintf("it does not bear the hash of row %d: one of them was changed or replaced", c.seq)
	}
	sum := sha256.Sum256(append(append(make([]byte, 0, len(prev)+len(payload)), prev...), payload...))
	if !bytes.Equal(sum[:], hash) {
		return "its hash does not fit what it says: it was changed"
	}
	c.seq, c.hash = seq, sum
	return ""
}

func (c *chain) check(badSeq int64, why string) AuditCheck {
	return AuditCheck{OK: why == "", Rows: c.seq, BadSeq: badSeq, Why: why, Seq: c.seq, Head: hex.EncodeToString(c.hash[:])}
}

// exportedRow is a line of an export. Payload is the very text that was hashed.
type exportedRow struct {
	Seq     int64           `json:"seq"`
	At      time.Time       `json:"at"`
	Actor   string          `json:"actor"`
	Action  string          `json:"action"`
	Tenant  *string         `json:"tenant"`
	Detail  json.RawMessage `json:"detail"`
	Prev    string          `json:"prev"`
	Hash    string          `json:"hash"`
	Payload string          `json:"payload"`
}

// line is the one way in which a row is written.
func (r exportedRow) line() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(r)
	return b.Bytes(), err
}

const (
	// maxAuditLine bounds a line of an export: a row's detail stands in it twice,
	// once as a JSON string.
	maxAuditLine = 16 * maxAuditDetails
	microsecond  = 6
)

// VerifyAuditFile checks what ExportAudit wrote, without the catalog: that each
// line is as it was written, says what was hashed, and follows the one before it.
// The error is of reading alone; what is wrong with the rows is in the answer.
func VerifyAuditFile(r io.Reader) (AuditCheck, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 64<<10), maxAuditLine)
	lines.Split(wholeLines)
	var c chain
	for lines.Scan() {
		row, why := parseExported(lines.Bytes())
		if why == "" {
			why = row.contradicts()
		}
		var prev, hash []byte
		if why == "" {
			prev, hash, why = row.hashes()
		}
		if why == "" {
			why = c.add(row.Seq, prev, hash, row.Payload)
		}
		if why != "" {
			return c.check(cmp.Or(row.Seq, c.seq+1), why), nil
		}
	}
	switch err := lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return c.check(c.seq+1, "the line is too long for an exported row"), nil
	case err != nil:
		return c.check(0, "the file can't be read"), fmt.Errorf("verify audit: %w", err)
	}
	return c.check(0, ""), nil
}

// wholeLines splits at line feeds and keeps them, so that a line that was cut off
// doesn't pass for a whole one.
func wholeLines(data []byte, atEOF bool) (int, []byte, error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i+1], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// parseExported reads a line. It must be the very bytes that a row is written in:
// else a name that stands twice would say one thing to us and another to somebody.
func parseExported(text []byte) (row exportedRow, why string) {
	if err := json.Unmarshal(text, &row); err != nil {
		return exportedRow{}, "the line is not a row as it is exported"
	}
	if again, err := row.line(); err != nil || !bytes.Equal(again, text) {
		return row, "the line is not a row as it is exported"
	}
	return row, ""
}

// contradicts says where a row's fields differ from what was hashed.
func (r exportedRow) contradicts() string {
	var hashed []json.RawMessage
	if json.Unmarshal([]byte(r.Payload), &hashed) != nil || len(hashed) != 6 {
		return "its payload is not a list of six values"
	}
	var seq int64
	var at, actor, action string
	var tenant *string
	for i, into := range []any{&seq, &at, &actor, &action, &tenant} {
		if json.Unmarshal(hashed[i], into) != nil {
			return "its payload has a value of another type"
		}
	}
	var detail bytes.Buffer
	if json.Compact(&detail, hashed[5]) != nil {
		return "its payload is not JSON"
	}
	micros, ok := epochMicros(at)
	for _, f := range []struct {
		name string
		same bool
	}{
		{"seq", seq == r.Seq},
		{"at", ok && r.At.Equal(time.UnixMicro(micros))},
		{"actor", actor == r.Actor},
		{"action", action == r.Action},
		{"tenant", (tenant == nil) == (r.Tenant == nil) && (tenant == nil || *tenant == *r.Tenant)},
		{"detail", bytes.Equal(detail.Bytes(), r.Detail)},
	} {
		if !f.same {
			return "its " + f.name + " is not what was hashed: it was changed"
		}
	}
	return ""
}

// epochMicros reads seconds since 1970 with up to six digits behind the point.
func epochMicros(text string) (micros int64, ok bool) {
	seconds, fraction, _ := strings.Cut(text, ".")
	if len(fraction) > microsecond || strings.HasPrefix(seconds, "-") {
		return 0, false
	}
	fraction += strings.Repeat("0", microsecond-len(fraction))
	micros, err := strconv.ParseInt(seconds+fraction, 10, 64)
	return micros, err == nil
}

func (r exportedRow) hashes() (prev, hash []byte, why string) {
	prev, err := hex.DecodeString(r.Prev)
	if err == nil {
		hash, err = hex.DecodeString(r.Hash)
	}
	if err != nil {
		return nil, nil, "its hashes are not in hex"
	}
	return prev, hash, ""
}
