package tenantdb

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// AuditRow is something that was done in the tenant: who did what, never its
// content.
type AuditRow struct {
	ID        uuid.UUID
	At        time.Time
	Actor     string // key:<id>, operator:<name> or system
	Action    string
	Subject   string // what it was done to
	RequestID string
	Detail    json.RawMessage // as it was written
	// PayloadHash is sha256 of salt, input, a zero byte and output of a prediction.
	PayloadHash []byte
	OperatorSeq *int64 // the row of the catalog's audit that it repeats
	Seal        *int64 // nil until it is sealed
	Pos         *int32 // its place in the seal, from 1
}

// auditColumns are those that a row's hash is over, in their order.
var auditColumns = []string{
	"id", "at", "actor", "action", "subject", "request_id", "detail", "payload_hash", "operator_seq",
}

// canonical appends the one text that a row is hashed as: a JSON array of
// auditColumns. The time is in microseconds since 1970, the detail a string, the
// hash in hex. Where JSON leaves a choice there is none: no blanks, and in strings
// only quotes, backslashes and control characters are escaped, the latter as \u00xx.
func (r *AuditRow) canonical(b []byte) []byte {
	b = append(b, `["`...)
	b = append(b, r.ID.String()...)
	b = append(b, `",`...)
	b = strconv.AppendInt(b, r.At.UnixMicro(), 10)
	for _, s := range []string{r.Actor, r.Action, r.Subject, r.RequestID, string(r.Detail)} {
		b = appendText(append(b, ','), s)
	}
	if r.PayloadHash == nil {
		b = append(b, `,null`...)
	} else {
		b = append(hex.AppendEncode(append(b, `,"`...), r.PayloadHash), '"')
	}
	if r.OperatorSeq == nil {
		return append(b, `,null]`...)
	}
	return append(strconv.AppendInt(append(b, ','), *r.OperatorSeq, 10), ']')
}

func appendText(b []byte, s string) []byte {
	const digits = "0123456789abcdef"
	b = append(b, '"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = append(b, `\u00`...)
			b = append(b, digits[c>>4], digits[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}

const listAudit = `
select a.id, a.at, a.actor, a.action, a.subject, a.request_id, a.detail::text, a.payload_hash,
       a.operator_seq, a.seal, a.pos
  from freehold.audit_log a
 where a.id < $1
 order by a.id desc
 limit $2`

// Of what isn't a prediction there is little, and it has an index of its own.
const listAuditAction = `
select a.id, a.at, a.actor, a.action, a.subject, a.request_id, a.detail::text, a.payload_hash,
       a.operator_seq, a.seal, a.pos
  from freehold.audit_log a
 where a.id < $1 and a.action = $3
 order by a.id desc
 limit $2`

const listAuditActs = `
select a.id, a.at, a.actor, a.action, a.subject, a.request_id, a.detail::text, a.payload_hash,
       a.operator_seq, a.seal, a.pos
  from freehold.audit_log a
 where a.id < $1 and a.action = $3 and a.action <> 'prediction'
 order by a.id desc
 limit $2`

// ActionPrediction is the action of predictions' rows.
const ActionPrediction = "prediction"

// AuditRows lists newest first, at most limit (at least one), those before `after`
// when it is not zero, and those of one action when it is not empty. ErrFenced.
func (db *DB) AuditRows(ctx context.Context, action string, after uuid.UUID, limit int) (list []AuditRow, err error) {
	if after == uuid.Nil {
		after = uuid.Max
	}
	b := db.fenced()
	sql, args := listAudit, []any{after, max(limit, 1)}
	if action != "" {
		sql, args = listAuditActs, append(args, action)
		if action == ActionPrediction {
			sql = listAuditAction
		}
	}
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		list, err = collectAudit(rows)
		return err
	})
	if err := db.send(ctx, b); err != nil {
		return nil, fmt.Errorf("list audit: %w", err)
	}
	return list, nil
}

// keyActor begins the name of an actor who is a tenant's API key.
const keyActor = "key:"

// maxAuditDetail bounds the detail of an event, in bytes.
const maxAuditDetail = 64 << 10

const insertAuditEvent = `
insert into freehold.audit_log (id, at, actor, action, subject, detail) values ($1, now(), $2, $3, $4, $5)`

// AddAuditEvent adds what was done in the tenant and is no prediction: retention,
// an erasure, a restore. Detail holds names and figures, never content. ErrFenced,
// ErrInvalid.
func (db *DB) AddAuditEvent(ctx context.Context, actor, action, subject string, detail map[string]any) error {
	if detail == nil {
		detail = map[string]any{}
	}
	text, err := json.Marshal(detail)
	if err != nil || len(text) > maxAuditDetail || actor == "" || action == "" {
		return fmt.Errorf("add audit event: %w", ErrInvalid)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("add audit event: %w", err)
	}
	b := db.fenced()
	b.Queue(insertAuditEvent, id, actor, action, subject, json.RawMessage(text))
	if err := db.send(ctx, b); err != nil {
		return fmt.Errorf("add audit event: %w", err)
	}
	return nil
}

const insertOperatorActs = `
insert into freehold.audit_log (id, at, actor, action, detail, operator_seq)
select x.id::uuid, x.at, x.actor, x.action, x.detail::json, x.seq
  from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    as x (id, at, actor, action, detail, seq)
 order by x.seq
on conflict (operator_seq) do nothing`

// AddOperatorActs repeats what operators did to the tenant in its own audit, each
// act once however often it is added: all of acts or, with an error, none.
func (db *DB) AddOperatorActs(ctx context.Context, acts []catalog.OperatorAct) error {
	if len(acts) == 0 {
		return nil
	}
	n := len(acts)
	ids, at, seqs := make([]string, n), make([]time.Time, n), make([]int64, n)
	actors, actions, details := make([]string, n), make([]string, n), make([]string, n)
	for i, a := range acts {
		ids[i], at[i], seqs[i] = actID(a).String(), a.At, a.Seq
		actors[i], actions[i], details[i] = a.Actor, a.Action, string(a.Detail)
		if !strings.HasPrefix(a.Actor, keyActor) { // what a tenant's key did stands there too
			actors[i] = "operator:" + a.Actor
		}
		if len(details[i]) > maxAuditDetail {
			details[i] = `{"cut": true}`
		}
	}
	b := db.fenced()
	b.Queue(insertOperatorActs, ids, at, actors, actions, details, seqs)
	if err := db.send(ctx, b); err != nil {
		return fmt.Errorf("add operators' acts: %w", err)
	}
	return nil
}

// actID is the uuid v7 of an operator's act: at its time, and the same each time
// that it is made (RFC 9562, 5.7).
func actID(a catalog.OperatorAct) (id uuid.UUID) {
	sum := sha256.Sum256(fmt.Appendf(nil, "operator act %d %d", a.Seq, a.At.UnixMicro()))
	copy(id[:], sum[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(a.At.UnixMilli(), 0)))
	copy(id[:6], ms[2:])
	id[6] = 0x70 | id[6]&0x0f
	id[8] = 0x80 | id[8]&0x3f
	return id
}

const selectLastAct = `select coalesce(max(a.operator_seq), 0) from freehold.audit_log a`

// LastOperatorSeq is the newest act that AddOperatorActs has added, 0 before the
// first.
func (db *DB) LastOperatorSeq(ctx context.Context) (seq int64, err error) {
	b := db.fenced()
	b.Queue(selectLastAct).QueryRow(func(row pgx.Row) error { return row.Scan(&seq) })
	if err := db.send(ctx, b); err != nil {
		return 0, fmt.Errorf("read audit: %w", err)
	}
	return seq, nil
}
