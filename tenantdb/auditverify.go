package tenantdb

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"freehold/catalog"
)

// Lend lends the tenant's database for as long as fn runs.
type Lend func(ctx context.Context, fn func(ctx context.Context, db *DB) error) error

// AuditVerify says what an audit is held against.
type AuditVerify struct {
	Tenant catalog.TenantID
	// Verify checks a signature: catalog.ErrSignature, catalog.ErrNotFound for a key
	// that isn't known.
	Verify func(keyID int64, msg, sig []byte) error
	// Noted is where the chain had come to, as was noted outside of the database: a
	// chain can't tell that its end is missing. Read it before verifying begins.
	Noted []catalog.AuditHead
	// Payloads has predictions compared with the hashes of their payloads.
	Payloads bool
}

// VerifyAudit reads a tenant's audit back, whole and in constant memory: a row or a
// seal that was changed, removed, inserted or moved is found, from its seal on. The
// database is borrowed for a page at a time. The error is of reading alone; what is
// wrong with the audit is in the answer.
func VerifyAudit(ctx context.Context, lend Lend, v AuditVerify) (AuditCheck, error) {
	r := &auditReader{lend: lend}
	c := newChain(v.Tenant, v.Verify, v.Noted)
	if v.Payloads {
		c.check.Payloads = &PayloadCheck{}
		r.onPage = func(page []AuditRow) error { return checkPayloads(ctx, lend, c, page) }
	}
	check, err := r.verify(ctx, c)
	if err != nil {
		return AuditCheck{}, fmt.Errorf("verify audit: %w", err)
	}
	return check, nil
}

// VerifyAudit is the function of that name for a borrower who has the database
// anyway.
func (db *DB) VerifyAudit(ctx context.Context, v AuditVerify) (AuditCheck, error) {
	return VerifyAudit(ctx, db.lend, v)
}

func (db *DB) lend(ctx context.Context, fn func(context.Context, *DB) error) error {
	return fn(ctx, db)
}

func (r *auditReader) verify(ctx context.Context, c *chain) (AuditCheck, error) {
	if err := r.begin(ctx); err != nil {
		return AuditCheck{}, err
	}
	for c.check.OK {
		seal, err := r.nextSeal(ctx)
		if err != nil {
			return AuditCheck{}, err
		}
		if seal == nil {
			break
		}
		if err := c.begin(*seal); err != nil {
			return AuditCheck{}, err
		}
		if err := r.rowsOf(ctx, c); err != nil {
			return AuditCheck{}, err
		}
		c.end()
	}
	check := c.done()
	if !check.OK {
		return check, nil
	}
	return r.count(ctx, c)
}

// rowsOf feeds the chain with the rows of the seal that has begun.
func (r *auditReader) rowsOf(ctx context.Context, c *chain) error {
	for c.check.OK {
		row, err := r.peekRow(ctx)
		switch {
		case err != nil:
			return err
		case row == nil || *row.Seal > c.seal.N:
			return nil
		case *row.Seal < c.seal.N:
			c.fail(c.seal.N, row.ID.String(), fmt.Sprintf("a row names seal %d, which does not exist or is not its own", *row.Seal))
			return nil
		}
		c.text = row.canonical(c.text[:0])
		c.row(*row.Pos, row.ID.String(), c.text)
		r.rows = r.rows[1:]
	}
	return nil
}

// Rows are counted besides being followed, since an index that somebody has dropped
// no longer keeps two from standing in one place.
const countAudit = `
select count(*) filter (where a.seal is null) as unsealed,
       min(a.at) filter (where a.seal is null) as oldest,
       count(*) filter (where a.seal <= $1) as sealed,
       count(*) filter (where a.seal > (select coalesce(max(s.n), 0) from freehold.audit_seals s)) as astray,
       (select count(*) from freehold.audit_seals s where s.n <= $1) as seals
  from freehold.audit_log a`

// count looks for what the chain doesn't lead to.
func (r *auditReader) count(ctx context.Context, c *chain) (AuditCheck, error) {
	var oldest pgtype.Timestamptz
	var sealed, astray, seals int64
	err := r.lend(ctx, func(ctx context.Context, db *DB) error {
		b := db.fenced()
		b.Queue(countAudit, r.upTo).QueryRow(func(row pgx.Row) error {
			return row.Scan(&c.check.Unsealed, &oldest, &sealed, &astray, &seals)
		})
		return db.send(ctx, b)
	})
	if err != nil {
		return AuditCheck{}, err
	}
	if at := moment(oldest); !at.IsZero() {
		c.check.OldestUnsealed = &at
	}
	switch {
	case astray > 0:
		c.fail(r.upTo+1, "", fmt.Sprintf("%d rows name a seal that does not exist", astray))
	case sealed != c.check.Rows || seals != c.check.N:
		c.fail(0, "", fmt.Sprintf("%d rows and %d seals are there, and the chain leads to %d and %d of them: some were inserted",
			sealed, seals, c.check.Rows, c.check.N))
	}
	return c.done(), nil
}

// auditReader reads seals and their rows, in order, by pages. Sealed rows are only
// ever added behind the last seal, so pages up to one seal are as good as a snapshot.
type auditReader struct {
	lend   Lend
	onPage func(page []AuditRow) error // nil: none

	upTo     int64 // the last seal when reading began
	seals    []AuditSeal
	rows     []AuditRow
	noSeals  bool // no page follows
	noRows   bool
	lastSeal int64 // that was read
	rowSeal  int64 // place of the last row that was read
	rowPos   int32
}

// auditPage is how many rows, or seals, are read at once.
const auditPage = 500

const selectUpTo = `select coalesce(max(s.n), 0) from freehold.audit_seals s`

func (r *auditReader) begin(ctx context.Context) error {
	// Before all others that there can be, also those that nobody should have written.
	r.lastSeal, r.rowSeal = -1<<63, -1<<63
	return r.lend(ctx, func(ctx context.Context, db *DB) error {
		b := db.fenced()
		b.Queue(selectUpTo).QueryRow(func(row pgx.Row) error { return row.Scan(&r.upTo) })
		return db.send(ctx, b)
	})
}

const selectSeals = `
select s.n, s.rows, s.prev, s.head, s.sealed_at, s.key_id, s.signature
  from freehold.audit_seals s where s.n > $1 and s.n <= $2 order by s.n limit $3`

// nextSeal is nil behind the last one.
func (r *auditReader) nextSeal(ctx context.Context) (*AuditSeal, error) {
	if len(r.seals) == 0 && !r.noSeals {
		err := r.lend(ctx, func(ctx context.Context, db *DB) error {
			b := db.fenced()
			b.Queue(selectSeals, r.lastSeal, r.upTo, auditPage).Query(func(rows pgx.Rows) (err error) {
				r.seals, err = collectSeals(rows)
				return err
			})
			return db.send(ctx, b)
		})
		if err != nil {
			return nil, err
		}
		r.noSeals = len(r.seals) < auditPage
		if n := len(r.seals); n > 0 {
			r.lastSeal = r.seals[n-1].N
		}
	}
	if len(r.seals) == 0 {
		return nil, nil //nolint:nilnil // none is an answer
	}
	seal := &r.seals[0]
	r.seals = r.seals[1:]
	return seal, nil
}

const selectSealed = `
select a.id, a.at, a.actor, a.action, a.subject, a.request_id, a.detail::text, a.payload_hash, a.operator_seq,
       a.seal, a.pos
  from freehold.audit_log a
 where a.seal is not null and a.pos is not null and (a.seal, a.pos) > ($1::bigint, $2::integer) and a.seal <= $3
 order by a.seal, a.pos limit $4`

// peekRow is nil behind the last one.
func (r *auditReader) peekRow(ctx context.Context) (*AuditRow, error) {
	if len(r.rows) == 0 && !r.noRows {
		err := r.lend(ctx, func(ctx context.Context, db *DB) error {
			b := db.fenced()
			b.Queue(selectSealed, r.rowSeal, r.rowPos, r.upTo, auditPage).Query(func(rows pgx.Rows) (err error) {
				r.rows, err = collectAudit(rows)
				return err
			})
			return db.send(ctx, b)
		})
		if err != nil {
			return nil, err
		}
		r.noRows = len(r.rows) < auditPage
		if n := len(r.rows); n > 0 {
			r.rowSeal, r.rowPos = *r.rows[n-1].Seal, *r.rows[n-1].Pos
			if r.onPage != nil {
				if err := r.onPage(r.rows); err != nil {
					return nil, err
				}
			}
		}
	}
	if len(r.rows) == 0 {
		return nil, nil //nolint:nilnil // none is an answer
	}
	return &r.rows[0], nil
}

const selectPayloads = `
select p.id, p.salt, coalesce(p.input::text, ''), coalesce(p.output::text, '')
  from freehold.predictions p where p.id = any($1::text[]::uuid[]) and p.salt is not null`

// checkPayloads compares the predictions of a page with what was hashed of them.
func checkPayloads(ctx context.Context, lend Lend, c *chain, page []AuditRow) error {
	want := map[uuid.UUID]*AuditRow{}
	var ids []string
	for i := range page {
		if r := &page[i]; r.Action == ActionPrediction && r.PayloadHash != nil {
			ids = append(ids, r.ID.String())
			want[r.ID] = r
		}
	}
	if len(ids) == 0 {
		return nil
	}
	var same int64
	var changed []uuid.UUID
	err := lend(ctx, func(ctx context.Context, db *DB) error {
		b := db.fenced()
		b.Queue(selectPayloads, ids).Query(func(rows pgx.Rows) error {
			same, changed = 0, nil
			var id uuid.UUID
			var salt []byte
			var input, output string
			// One at a time: payloads are large.
			_, err := pgx.ForEachRow(rows, []any{&id, &salt, &input, &output}, func() error {
				if bytes.Equal(hashPayload(salt, input, output), want[id].PayloadHash) {
					same++
				} else {
					changed = append(changed, id)
				}
				return nil
			})
			return err
		})
		return db.send(ctx, b)
	})
	if err != nil {
		return err
	}
	c.check.Payloads.Same += same
	c.check.Payloads.Gone += int64(len(ids)-len(changed)) - same
	if len(changed) > 0 {
		c.fail(*want[changed[0]].Seal, changed[0].String(), fmt.Sprintf("the payload of prediction %s is not what was hashed: it was changed", changed[0]))
	}
	return nil
}

func hashPayload(salt []byte, input, output string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(input))
	h.Write([]byte{0})
	h.Write([]byte(output))
	return h.Sum(nil)
}
