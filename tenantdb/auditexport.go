package tenantdb

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// AuditExport says what an export is signed with. PublicKeys are those of every key
// that may have signed a seal.
type AuditExport struct {
	Tenant     catalog.TenantID
	PublicKeys map[int64]ed25519.PublicKey
	Sign       func(msg []byte) (sig []byte, keyID int64, err error)
}

// auditHeader is the first line of an export. It is signed, so that a file whose end
// was cut off can't be given another header.
type auditHeader struct {
	Version    int              `json:"freehold_audit"`
	Tenant     string           `json:"tenant"`
	ExportedAt time.Time        `json:"exported_at"`
	N          int64            `json:"seals"` // the number of the last
	Head       string           `json:"head"`
	Columns    []string         `json:"columns"` // of a row, in their order
	PublicKeys map[int64]string `json:"public_keys"`
	KeyID      int64            `json:"key_id"`
	Signature  []byte           `json:"signature"`
}

const auditVersion = 1

// message is what the header's signature is over.
func (h *auditHeader) message() []byte {
	return fmt.Appendf(nil, "freehold audit export v1\ntenant %s\nat %d\nn %d\nhead %s\n",
		h.Tenant, h.ExportedAt.UnixMicro(), h.N, h.Head)
}

// auditSealLine is a seal in an export; its rows follow.
type auditSealLine struct {
	N         int64     `json:"seal"`
	Rows      int32     `json:"rows"`
	Prev      string    `json:"prev"`
	Head      string    `json:"head"`
	SealedAt  time.Time `json:"sealed_at"`
	KeyID     int64     `json:"key_id"`
	Signature []byte    `json:"signature"`
}

func (s *AuditSeal) line() auditSealLine {
	return auditSealLine{s.N, s.Rows, hex.EncodeToString(s.Prev), hex.EncodeToString(s.Head), s.SealedAt, s.KeyID, s.Signature}
}

// jsonLine is the one way in which a header or a seal is written.
func jsonLine(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

// How a row's line begins and ends; between stands the very text that is hashed.
const (
	rowBegins      = `{"pos":`
	rowGoesOn      = `,"row":`
	unsealedBegins = `{"unsealed":`
	lineEnds       = "}\n"
)

// ExportAudit writes a tenant's audit as lines of JSON that VerifyAuditFile checks
// without any database: a signed header, each seal with its rows behind it, and the
// rows that aren't sealed. It returns how many rows it wrote. What was tampered with
// is written as it is.
func ExportAudit(ctx context.Context, lend Lend, x AuditExport, w io.Writer) (rows int64, err error) {
	if rows, err = exportAudit(ctx, lend, x, w); err != nil {
		return rows, fmt.Errorf("export audit: %w", err)
	}
	return rows, nil
}

// ExportAudit is the function of that name for a borrower who has the database
// anyway.
func (db *DB) ExportAudit(ctx context.Context, x AuditExport, w io.Writer) (rows int64, err error) {
	return ExportAudit(ctx, db.lend, x, w)
}

func exportAudit(ctx context.Context, lend Lend, x AuditExport, w io.Writer) (n int64, err error) {
	r := &auditReader{lend: lend}
	if err := r.begin(ctx); err != nil {
		return 0, err
	}
	if err := r.writeHeader(ctx, x, w); err != nil {
		return 0, err
	}
	var text []byte
	write := func(row *AuditRow) error {
		text = text[:0]
		if row.Seal == nil || row.Pos == nil {
			text = append(text, unsealedBegins...)
		} else {
			text = strconv.AppendInt(append(text, rowBegins...), int64(*row.Pos), 10)
			text = append(text, rowGoesOn...)
		}
		text = append(row.canonical(text), lineEnds...)
		_, err := w.Write(text)
		n++
		return err
	}
	for {
		seal, err := r.nextSeal(ctx)
		if err != nil {
			return n, err
		}
		if seal != nil {
			line, err := jsonLine(seal.line())
			if err == nil {
				_, err = w.Write(line)
			}
			if err != nil {
				return n, err
			}
		}
		for {
			row, err := r.peekRow(ctx)
			if err != nil {
				return n, err
			}
			if row == nil || seal != nil && *row.Seal > seal.N {
				break
			}
			if err := write(row); err != nil {
				return n, err
			}
			r.rows = r.rows[1:]
		}
		if seal == nil {
			return n, r.unsealed(ctx, write)
		}
	}
}

const selectHeadOf = `select s.head from freehold.audit_seals s where s.n = $1`

func (r *auditReader) writeHeader(ctx context.Context, x AuditExport, w io.Writer) error {
	h := auditHeader{
		Version: auditVersion, Tenant: x.Tenant.String(), ExportedAt: time.Now().UTC().Truncate(time.Microsecond),
		N: r.upTo, Columns: auditColumns, PublicKeys: map[int64]string{},
	}
	for id, key := range x.PublicKeys {
		h.PublicKeys[id] = hex.EncodeToString(key)
	}
	head := noHash()
	if r.upTo > 0 {
		err := r.lend(ctx, func(ctx context.Context, db *DB) error {
			b := db.fenced()
			b.Queue(selectHeadOf, r.upTo).QueryRow(func(row pgx.Row) error { return row.Scan(&head) })
			return db.send(ctx, b)
		})
		if err != nil {
			return err
		}
	}
	h.Head = hex.EncodeToString(head)
	var err error
	if h.Signature, h.KeyID, err = x.Sign(h.message()); err != nil {
		return err
	}
	line, err := jsonLine(h)
	if err == nil {
		_, err = w.Write(line)
	}
	return err
}

const selectStillUnsealed = `
select a.id, a.at, a.actor, a.action, a.subject, a.request_id, a.detail::text, a.payload_hash, a.operator_seq,
       a.seal, a.pos
  from freehold.audit_log a where a.seal is null and a.id > $1 order by a.id limit $2`

// unsealed calls fn with each row that no seal holds.
func (r *auditReader) unsealed(ctx context.Context, fn func(*AuditRow) error) error {
	for after := uuid.Nil; ; {
		var page []AuditRow
		err := r.lend(ctx, func(ctx context.Context, db *DB) error {
			b := db.fenced()
			b.Queue(selectStillUnsealed, after, auditPage).Query(func(rows pgx.Rows) (err error) {
				page, err = collectAudit(rows)
				return err
			})
			return db.send(ctx, b)
		})
		if err != nil {
			return err
		}
		for i := range page {
			if err := fn(&page[i]); err != nil {
				return err
			}
			after = page[i].ID
		}
		if len(page) < auditPage {
			return nil
		}
	}
}
