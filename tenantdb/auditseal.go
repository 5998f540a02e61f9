package tenantdb

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"freehold/catalog"
)

// AuditSeal closes a part of the chain: Rows rows that follow those of the seal
// before it. Head is the hash that the chain has come to with the last of them: each
// row makes it sha256(hash before ‖ canonical row), beginning with Prev, the first
// of all with 32 zero bytes.
type AuditSeal struct {
	N         int64
	Rows      int32
	Prev      []byte
	Head      []byte
	SealedAt  time.Time
	KeyID     int64
	Signature []byte // of message
}

// message is what a seal's signature is over. It names the tenant: no chain passes
// for another tenant's.
func (s *AuditSeal) message(tenant catalog.TenantID) []byte {
	return fmt.Appendf(nil, "freehold audit seal v1\ntenant %s\nn %d\nrows %d\nprev %x\nhead %x\nat %d\n",
		tenant, s.N, s.Rows, s.Prev, s.Head, s.SealedAt.UnixMicro())
}

// link is the next hash of a chain.
func link(hash, canonical []byte) []byte {
	h := sha256.New()
	h.Write(hash)
	h.Write(canonical)
	return h.Sum(nil)
}

// noHash is what the first seal of all follows.
func noHash() []byte { return make([]byte, sha256.Size) }

const (
	// SealRows is how many rows a seal holds at most.
	SealRows = 1000
	// sealTries is how often rows are read again that somebody else has sealed.
	sealTries = 4
	// stateBehind is what seal_audit raises for a seal that isn't the next one.
	stateBehind = "FH002"
)

const selectLastSeal = `
select s.n, s.rows, s.prev, s.head, s.sealed_at, s.key_id, s.signature
  from freehold.audit_seals s order by s.n desc limit 1`

const selectUnsealed = `
select a.id, a.at, a.actor, a.action, a.subject, a.request_id, a.detail::text, a.payload_hash, a.operator_seq,
       a.seal, a.pos
  from freehold.audit_log a where a.seal is null order by a.id limit $1`

const sealAudit = `select freehold.seal_audit($1, $2::text[]::uuid[], $3, $4, $5, $6, $7)`

// Seal seals rows that aren't sealed yet, the oldest first and at most SealRows of
// them. It returns where the chain ends now, also when there was nothing to seal
// (N is 0 before the first seal), and how many rows it sealed. Two round trips, and
// no lock is held between them: whoever comes second to the same rows reads again.
// sign signs with a key that is in no database. ErrFenced: what is sealed in a
// database that the tenant is moving out of would be missing in the other one.
func (db *DB) Seal(ctx context.Context, tenant catalog.TenantID, sign func(msg []byte) (sig []byte, keyID int64, err error)) (head catalog.AuditHead, rows int, err error) {
	for try := 1; ; try++ {
		head, rows, err = db.sealOnce(ctx, tenant, sign)
		refused, ok := errors.AsType[*StateError](err)
		if err == nil || !ok || refused.State != stateBehind || try == sealTries {
			break
		}
	}
	if err != nil {
		return catalog.AuditHead{}, 0, fmt.Errorf("seal audit: %w", err)
	}
	return head, rows, nil
}

func (db *DB) sealOnce(ctx context.Context, tenant catalog.TenantID, sign func(msg []byte) ([]byte, int64, error)) (head catalog.AuditHead, n int, err error) {
	var last []AuditSeal
	var open []AuditRow
	b := db.fenced()
	b.Queue(selectLastSeal).Query(func(rows pgx.Rows) (err error) {
		last, err = collectSeals(rows)
		return err
	})
	b.Queue(selectUnsealed, SealRows).Query(func(rows pgx.Rows) (err error) {
		open, err = collectAudit(rows)
		return err
	})
	if err := db.send(ctx, b); err != nil {
		return head, 0, err
	}
	seal := AuditSeal{N: 1, Prev: noHash()}
	head = catalog.AuditHead{Tenant: tenant, Head: seal.Prev}
	if len(last) > 0 {
		seal.N, seal.Prev = last[0].N+1, last[0].Head
		head.N, head.Head, head.SealedAt = last[0].N, last[0].Head, last[0].SealedAt
	}
	if len(open) == 0 {
		return head, 0, nil
	}
	ids := make([]string, len(open)) // which also connections send that prepare nothing
	seal.Head = seal.Prev
	var text []byte
	for i := range open {
		ids[i] = open[i].ID.String()
		text = open[i].canonical(text[:0])
		seal.Head = link(seal.Head, text)
	}
	seal.Rows, seal.SealedAt = int32(len(open)), time.Now().UTC().Truncate(time.Microsecond)
	if seal.Signature, seal.KeyID, err = sign(seal.message(tenant)); err != nil {
		return head, 0, err
	}
	b = db.fenced()
	b.Queue(sealAudit, seal.N, ids, seal.Prev, seal.Head, seal.SealedAt, seal.KeyID, seal.Signature)
	if err := db.send(ctx, b); err != nil {
		return head, 0, err
	}
	return catalog.AuditHead{Tenant: tenant, N: seal.N, Head: seal.Head, SealedAt: seal.SealedAt}, len(open), nil
}

// collectAudit reads rows for hashing. A time that is none, which only somebody
// else can have written, becomes the zero time rather than an error: else one row
// would stop the sealing of all.
func collectAudit(rows pgx.Rows) ([]AuditRow, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r AuditRow, err error) {
		var at pgtype.Timestamptz
		var detail string
		err = row.Scan(&r.ID, &at, &r.Actor, &r.Action, &r.Subject, &r.RequestID, &detail, &r.PayloadHash,
			&r.OperatorSeq, &r.Seal, &r.Pos)
		r.At, r.Detail = moment(at), json.RawMessage(detail)
		return r, err
	})
}

func collectSeals(rows pgx.Rows) ([]AuditSeal, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s AuditSeal, err error) {
		var at pgtype.Timestamptz
		err = row.Scan(&s.N, &s.Rows, &s.Prev, &s.Head, &at, &s.KeyID, &s.Signature)
		s.SealedAt = moment(at)
		return s, err
	})
}

func moment(at pgtype.Timestamptz) time.Time {
	if !at.Valid || at.InfinityModifier != pgtype.Finite {
		return time.Time{}
	}
	return at.Time.UTC()
}
