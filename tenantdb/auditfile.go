package tenantdb

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
)

// AuditFileCheck is what reading an export back has shown.
type AuditFileCheck struct {
	AuditCheck

	Tenant     string           `json:"tenant"`
	ExportedAt time.Time        `json:"exported_at"`
	PublicKeys map[int64]string `json:"public_keys"` // in hex, as the file names them
	// Trusted says that the keys are the caller's own. Else they are the file's: whoever
	// wrote it may have made them.
	Trusted bool `json:"trusted"`
}

// maxAuditLine bounds a line of an export.
const maxAuditLine = 64 << 20

// VerifyAuditFile checks what ExportAudit wrote, without any database: that the
// header is signed, that each line is as it was written, and that the chain leads
// from the first row to the head that the header names. With trusted keys nothing
// else may have signed; without them the file's own are taken, which shows that
// nobody changed the file who hasn't made all of it. The error is of reading alone.
func VerifyAuditFile(in io.Reader, trusted []ed25519.PublicKey) (AuditFileCheck, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), maxAuditLine)
	lines.Split(wholeLines)
	f := auditFile{out: AuditFileCheck{Trusted: len(trusted) > 0}, trusted: trusted}
	for f.why == "" && lines.Scan() {
		f.number++
		f.line(lines.Bytes())
		if f.chain != nil && !f.chain.check.OK {
			break
		}
	}
	err := lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		f.why = "the line is too long for an export"
		f.number++
	case err != nil:
		return f.out, fmt.Errorf("verify audit: %w", err)
	}
	return f.end(), nil
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

// auditFile is an export that is being read.
type auditFile struct {
	out     AuditFileCheck
	trusted []ed25519.PublicKey
	header  auditHeader
	chain   *chain // nil until the header was read
	open    bool   // a seal has begun
	loose   bool   // rows that aren't sealed have begun: no others follow
	number  int    // of the line
	why     string // the line isn't one of an export
	text    []byte
}

const notALine = "the line is not as it is exported"

func (f *auditFile) line(text []byte) {
	switch {
	case f.chain == nil:
		f.readHeader(text)
	case bytes.HasPrefix(text, []byte(rowBegins)):
		f.readRow(text)
	case bytes.HasPrefix(text, []byte(unsealedBegins)):
		f.readLoose(text)
	default:
		f.readSeal(text)
	}
}

// same reads a line into v, and wants it to be the very bytes that v is written in:
// else a name that stands twice would say one thing to us and another to somebody.
func same(text []byte, v any) bool {
	if json.Unmarshal(text, v) != nil {
		return false
	}
	again, err := jsonLine(v)
	return err == nil && bytes.Equal(again, text)
}

// exact reports whether a signature, which is over microseconds, is over all of at.
func exact(at time.Time) bool { return at.Equal(at.Truncate(time.Microsecond)) }

func (f *auditFile) readHeader(text []byte) {
	h := &f.header
	if !same(text, h) || h.Version != auditVersion || !slices.Equal(h.Columns, auditColumns) || h.N < 0 {
		f.why = "the first line is not the header of an export"
		return
	}
	f.out.Tenant, f.out.ExportedAt, f.out.PublicKeys = h.Tenant, h.ExportedAt, h.PublicKeys
	head, err := hex.DecodeString(h.Head)
	tenant, terr := catalog.ParseTenantID(h.Tenant)
	if err = errors.Join(err, terr); err == nil {
		err = f.verify(h.KeyID, h.message(), h.Signature)
	}
	if err != nil || !exact(h.ExportedAt) {
		f.why = "the header's signature does not fit, or is none of the keys that are trusted"
		return
	}
	f.chain = newChain(tenant, f.verify, []catalog.AuditHead{{N: h.N, Head: head}})
}

// verify checks a signature with the file's keys, those of them that are trusted.
func (f *auditFile) verify(keyID int64, msg, sig []byte) error {
	text, ok := f.header.PublicKeys[keyID]
	key, err := hex.DecodeString(text)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return catalog.ErrNotFound
	}
	is := func(t ed25519.PublicKey) bool { return bytes.Equal(t, key) }
	if len(f.trusted) > 0 && !slices.ContainsFunc(f.trusted, is) {
		return catalog.ErrNotFound
	}
	if !ed25519.Verify(key, msg, sig) {
		return catalog.ErrSignature
	}
	return nil
}

func (f *auditFile) readSeal(text []byte) {
	var l auditSealLine
	if !same(text, &l) || f.loose {
		f.why = notALine
		return
	}
	prev, err := hex.DecodeString(l.Prev)
	head, herr := hex.DecodeString(l.Head)
	if err != nil || herr != nil || !exact(l.SealedAt) {
		f.why = notALine
		return
	}
	f.close()
	if !f.chain.check.OK {
		return
	}
	s := AuditSeal{l.N, l.Rows, prev, head, l.SealedAt, l.KeyID, l.Signature}
	if err := f.chain.begin(s); err != nil { // verify's are all answers
		f.why = notALine
	}
	f.open = true
}

// close ends the seal that has begun, if any.
func (f *auditFile) close() {
	if f.open {
		f.chain.end()
		f.open = false
	}
}

func (f *auditFile) readRow(text []byte) {
	place, row, ok := bytes.Cut(text[len(rowBegins):], []byte(rowGoesOn))
	pos, err := strconv.ParseInt(string(place), 10, 32)
	if !ok || err != nil || strconv.FormatInt(pos, 10) != string(place) || !f.open {
		f.why = notALine
		return
	}
	if id, ok := f.hashed(row); ok {
		f.chain.row(int32(pos), id, f.text)
	}
}

func (f *auditFile) readLoose(text []byte) {
	f.close()
	f.loose = true
	if _, ok := f.hashed(text[len(unsealedBegins):]); ok {
		f.chain.check.Unsealed++
	}
}

// hashed puts a row's canonical text into f.text: what stands in the line, when the
// row that it says is written so.
func (f *auditFile) hashed(text []byte) (id string, ok bool) {
	text, ok = bytes.CutSuffix(text, []byte(lineEnds))
	var fields []json.RawMessage
	if !ok || json.Unmarshal(text, &fields) != nil || len(fields) != len(auditColumns) {
		f.why = notALine
		return "", false
	}
	var r AuditRow
	var bare, detail string
	var hash *string
	var micros int64
	for i, into := range []any{&bare, &micros, &r.Actor, &r.Action, &r.Subject, &r.RequestID, &detail, &hash, &r.OperatorSeq} {
		if json.Unmarshal(fields[i], into) != nil {
			f.why = notALine
			return "", false
		}
	}
	var err error
	r.ID, err = uuid.Parse(bare)
	r.At, r.Detail = time.UnixMicro(micros), json.RawMessage(detail)
	if hash != nil {
		var herr error
		r.PayloadHash, herr = hex.DecodeString(*hash)
		err = errors.Join(err, herr)
	}
	f.text = r.canonical(f.text[:0])
	if err != nil || !bytes.Equal(f.text, text) {
		f.why = notALine
		return "", false
	}
	if f.loose {
		if at := r.At.UTC(); f.chain.check.OldestUnsealed == nil || at.Before(*f.chain.check.OldestUnsealed) {
			f.chain.check.OldestUnsealed = &at
		}
	}
	return bare, true
}

func (f *auditFile) end() AuditFileCheck {
	if f.chain == nil {
		if f.why == "" {
			f.why = "the file is empty"
		}
		f.out.Why, f.out.Keys = f.why, []int64{}
		return f.out
	}
	if f.why != "" {
		f.chain.fail(f.chain.seal.N, "", fmt.Sprintf("line %d: %s", f.number, f.why))
	} else {
		f.close()
	}
	f.out.AuditCheck = f.chain.done()
	return f.out
}
