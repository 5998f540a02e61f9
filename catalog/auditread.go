package catalog

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
)

// AuditRow is something that an operator did.
type AuditRow struct {
	Seq    int64           `json:"seq"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Action string          `json:"action"`
	Tenant *string         `json:"tenant"` // its id
	Slug   *string         `json:"slug"`   // as it is now
	Detail json.RawMessage `json:"detail"`
}

// AuditFilter narrows AuditRows; what is empty narrows nothing.
type AuditFilter struct {
	Tenant string // a slug; deleted tenants of that slug are meant too
	Actor  string
	Action string
	After  int64 // the last seq of the page before
	Oldest bool  // the oldest row first, else the newest
	Limit  int   // 100
}

const (
	selectAudit = `
select a.seq, a.at, a.actor, a.action, a.tenant::text, t.slug, a.detail
  from operator_audit a left join tenants t on t.id = a.tenant
 where ($1 = '' or t.slug = $1) and ($2 = '' or a.actor = $2) and ($3 = '' or a.action = $3)`

	newestAudit = selectAudit + `
   and ($4::bigint = 0 or a.seq < $4) order by a.seq desc limit $5`

	oldestAudit = selectAudit + `
   and a.seq > $4 order by a.seq limit $5`
)

// AuditRows lists what operators did, a page at a time.
func (c *Catalog) AuditRows(ctx context.Context, f AuditFilter) ([]AuditRow, error) {
	sql := newestAudit
	if f.Oldest {
		sql = oldestAudit
	}
	rows, err := c.writer.Query(ctx, sql, f.Tenant, f.Actor, f.Action, f.After, orDefault(f.Limit, 100))
	if err != nil {
		return nil, wrap("read audit", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[AuditRow])
	return list, wrap("read audit", err)
}

// chainedRow is a row with the text that its hash is over, made from the row anew
// as append_operator_audit made it.
type chainedRow struct {
	AuditRow

	Prev, Hash []byte
	Payload    string
}

const (
	// Rows are only ever added, so that pages of them are as good as a snapshot.
	selectChain = `
select a.seq, a.at, a.actor, a.action, a.tenant::text, null as slug, a.detail, a.prev, a.hash,
       jsonb_build_array(a.seq, extract(epoch from a.at)::text, a.actor, a.action, a.tenant, a.detail)::text as payload
  from operator_audit a where a.seq > $1 order by a.seq limit $2`

	chainPage = 500
)

// eachAudit calls fn with every row in order, until it answers false.
func (c *Catalog) eachAudit(ctx context.Context, fn func(chainedRow) (bool, error)) error {
	for after := int64(math.MinInt64); ; {
		rows, err := c.writer.Query(ctx, selectChain, after, chainPage)
		if err != nil {
			return wrap("read audit", err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByName[chainedRow])
		if err != nil {
			return wrap("read audit", err)
		}
		for _, r := range list {
			if more, err := fn(r); err != nil || !more {
				return err
			}
			after = r.Seq
		}
		if len(list) < chainPage {
			return nil
		}
	}
}

// VerifyAudit reads the whole chain back: a row that was changed, removed or
// inserted is found. The error is of reading alone.
func (c *Catalog) VerifyAudit(ctx context.Context) (AuditCheck, error) {
	var link chain
	var bad int64
	var why string
	err := c.eachAudit(ctx, func(r chainedRow) (bool, error) {
		if why = link.add(r.Seq, r.Prev, r.Hash, r.Payload); why != "" {
			bad = r.Seq
		}
		return why == "", nil
	})
	if err != nil {
		return AuditCheck{}, err
	}
	return link.check(bad, why), nil
}

// ExportAudit writes every row as a line of JSON that VerifyAuditFile can check,
// and returns how many. A row that was tampered with is written as it is.
func (c *Catalog) ExportAudit(ctx context.Context, w io.Writer) (rows int64, err error) {
	err = c.eachAudit(ctx, func(r chainedRow) (bool, error) {
		line, err := exportedRow{
			Seq: r.Seq, At: r.At.UTC(), Actor: r.Actor, Action: r.Action, Tenant: r.Tenant, Detail: r.Detail,
			Prev: hex.EncodeToString(r.Prev), Hash: hex.EncodeToString(r.Hash), Payload: r.Payload,
		}.line()
		if err == nil {
			_, err = w.Write(line)
		}
		if err != nil {
			return false, fmt.Errorf("export audit: %w", err)
		}
		rows++
		return true, nil
	})
	return rows, err
}
