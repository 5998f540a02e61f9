package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// AuditHead is how far a tenant's audit is sealed: the number of its last seal, and
// the hash that the chain of rows has come to. N is 0 before the first.
type AuditHead struct {
	Tenant   TenantID  `json:"tenant"`
	N        int64     `json:"n"`
	Head     []byte    `json:"head"`
	SealedAt time.Time `json:"sealed_at"`
}

// In the order of tenants, so that two nodes never wait for each other. Of a tenant
// that goes or has gone nothing is noted: what is erased stays so.
const upsertAuditHeads = `
insert into audit_heads as a (tenant, n, head, sealed_at)
select x.tenant, x.n, x.head, x.sealed_at
  from unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::timestamptz[]) as x (tenant, n, head, sealed_at)
  join tenants t on t.id = x.tenant and t.state not in ('deleting', 'deleted')
 order by x.tenant
on conflict (tenant) do update set n = excluded.n, head = excluded.head, sealed_at = excluded.sealed_at
 where excluded.n > a.n`

const selectForked = `
select a.tenant
  from unnest($1::uuid[], $2::bigint[], $3::bytea[]) as x (tenant, n, head)
  join audit_heads a on a.tenant = x.tenant and a.n = x.n and a.head <> x.head`

// SetAuditHeads notes how far tenants' audits are sealed, each tenant once in the
// list. It never goes back: what was noted stands above a lower number, which
// another process may be late with. Another head for the same number is a chain
// that was replaced: it is logged, and what was noted first stands until a higher
// number is noted. What is proven stands then too, so that verifying finds it.
func (c *Catalog) SetAuditHeads(ctx context.Context, heads []AuditHead) error {
	if len(heads) == 0 {
		return nil
	}
	n := len(heads)
	tenants, numbers, hashes, at := make([]string, n), make([]int64, n), make([][]byte, n), make([]time.Time, n)
	for i, h := range heads {
		tenants[i], numbers[i], hashes[i], at[i] = h.Tenant.String(), h.N, h.Head, h.SealedAt
	}
	var forked []string
	b := new(pgx.Batch)
	b.Queue(upsertAuditHeads, tenants, numbers, hashes, at)
	b.Queue(selectForked, tenants, numbers, hashes).Query(func(rows pgx.Rows) error {
		list, err := pgx.CollectRows(rows, pgx.RowTo[TenantID])
		for _, id := range list {
			forked = append(forked, id.String())
		}
		return err
	})
	if err := c.writer.SendBatch(ctx, b).Close(); err != nil {
		return wrap("note audit heads", err)
	}
	for _, id := range forked {
		c.logger.ErrorContext(ctx, "audit replaced: another seal bears the number of one that was noted", "tenant", id)
	}
	return nil
}

const selectAuditHead = `
select a.tenant, a.n, a.head, a.sealed_at, a.proven_n, a.proven_head from audit_heads a where a.tenant = $1`

type notedHead struct {
	AuditHead

	ProvenN    int64
	ProvenHead []byte
}

// AuditHead is what was noted last of a tenant, and what ProveAuditHead was told
// last; N is 0 when nothing was. The tenant's chain must lead through both.
func (c *Catalog) AuditHead(ctx context.Context, id TenantID) (noted, proven AuditHead, err error) {
	noted, proven = AuditHead{Tenant: id}, AuditHead{Tenant: id, Head: make([]byte, 32)}
	rows, err := c.writer.Query(ctx, selectAuditHead, id)
	if err != nil {
		return noted, proven, wrap("read audit head", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[notedHead])
	if err != nil || len(list) == 0 {
		return noted, proven, wrap("read audit head", err)
	}
	proven.N, proven.Head = list[0].ProvenN, list[0].ProvenHead
	return list[0].AuditHead, proven, nil
}

const proveAuditHead = `
update audit_heads set proven_n = $4, proven_head = $5
 where tenant = $1 and proven_n = $2 and proven_head = $3 and proven_n < $4`

// ProveAuditHead says that a tenant's chain was seen to lead through what was noted
// of it, and where it had come to then. Nothing changes when was isn't proven any
// more: somebody else has said more, or the database was restored.
func (c *Catalog) ProveAuditHead(ctx context.Context, was, now AuditHead) error {
	_, err := c.writer.Exec(ctx, proveAuditHead, was.Tenant, was.N, was.Head, now.N, now.Head)
	return wrap("note proven audit head", err)
}

const selectAuditHeads = `
select a.tenant, a.n, a.head, a.sealed_at
  from audit_heads a join tenants t on t.id = a.tenant
 where t.state <> 'deleted' order by a.tenant`

// AuditHeads is what was noted last of each tenant that isn't deleted, in the order
// of their ids.
func (c *Catalog) AuditHeads(ctx context.Context) ([]AuditHead, error) {
	rows, err := c.writer.Query(ctx, selectAuditHeads)
	if err != nil {
		return nil, wrap("list audit heads", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[AuditHead])
	return list, wrap("list audit heads", err)
}

const rewindAuditHead = `
insert into audit_heads (tenant, n, head, sealed_at, proven_n, proven_head) values ($1, $2, $3, $4, $2, $3)
on conflict (tenant) do update set n = excluded.n, head = excluded.head, sealed_at = excluded.sealed_at,
       proven_n = excluded.proven_n, proven_head = excluded.proven_head`

// RewindAuditHead notes that a tenant's audit now ends at h, also below what was
// noted: its database was restored from a backup. What it was before stands in
// operator_audit, in the same transaction. h.SealedAt isn't read: it is noted as of
// now.
func (c *Catalog) RewindAuditHead(ctx context.Context, actor string, h AuditHead) error {
	if h.Head == nil {
		h.Head = make([]byte, 32)
	}
	err := pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, selectAuditHead+` for update`, h.Tenant)
		if err != nil {
			return err
		}
		before, err := pgx.CollectRows(rows, pgx.RowToStructByName[notedHead])
		if err != nil {
			return err
		}
		detail := map[string]any{"n": h.N, "head": fmt.Sprintf("%x", h.Head)}
		for _, b := range before {
			detail["was_n"], detail["was_head"] = b.N, fmt.Sprintf("%x", b.Head)
		}
		text, err := json.Marshal(detail)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, rewindAuditHead, h.Tenant, h.N, h.Head, time.Now()); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, appendAudit, actor, "audit.rewind", h.Tenant, text)
		return err
	})
	return wrap("rewind audit head", err)
}

// OperatorAct is something that an operator did to a tenant.
type OperatorAct struct {
	Seq    int64
	At     time.Time
	Actor  string
	Action string
	Detail json.RawMessage
}

const selectOperatorActs = `
select a.seq, a.at, a.actor, a.action, a.detail
  from operator_audit a where a.tenant = $1 and a.seq > $2 order by a.seq limit $3`

// OperatorActs lists what operators did to a tenant after a seq, the oldest first.
// Rows get their numbers in the order in which they are there to be read: nothing
// turns up later below one that was read.
func (c *Catalog) OperatorActs(ctx context.Context, id TenantID, after int64, limit int) ([]OperatorAct, error) {
	rows, err := c.writer.Query(ctx, selectOperatorActs, id, after, limit)
	if err != nil {
		return nil, wrap("read audit", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[OperatorAct])
	return list, wrap("read audit", err)
}
