package catalog

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// MonthLayout is how a month is written: 2026-11.
const MonthLayout = "2006-01"

// ParseMonth reads a calendar month (UTC), and returns its first moment. ErrInvalid,
// as an *Invalid of the field.
func ParseMonth(field, text string) (time.Time, error) {
	month, err := time.Parse(MonthLayout, text)
	if err != nil || month.Format(MonthLayout) != text || month.Year() < 1 {
		return time.Time{}, &Invalid{Field: field, Text: field + ": want a month such as 2026-11"}
	}
	return month, nil
}

// Decimal writes nano-units (10⁻⁹) as units, exactly, with two digits behind the
// point at least.
func Decimal(nano int64) string { return decimal(big.NewInt(nano)) }

func decimal(amount *big.Int) string {
	units, rest := new(big.Int).QuoRem(new(big.Int).Abs(amount), big.NewInt(nano), new(big.Int))
	part := fmt.Sprintf("%09d", rest.Int64())
	part = part[:2] + strings.TrimRight(part[2:], "0")
	sign := ""
	if amount.Sign() < 0 {
		sign = "-"
	}
	return sign + units.String() + "." + part
}

// InvoiceLine is what a tenant used of a model in a month (UTC), for its bill:
// counts and money, no content. The lines of deleted tenants stay.
type InvoiceLine struct {
	Month            string   `json:"month" db:"-"` // 2026-11
	TenantID         TenantID `json:"tenant_id"`
	Slug             string   `json:"tenant"` // as it was last
	Model            string   `json:"model"`
	Requests         int64    `json:"requests"`
	PromptTokens     int64    `json:"prompt_tokens"`
	CompletionTokens int64    `json:"completion_tokens"`
	Cost             string   `json:"cost" db:"-"` // decimal, in the bill's currency
	CostNano         int64    `json:"cost_nano"`   // the same in 10⁻⁹ of it
}

// InvoiceTotal is the sum of lines. CostNano is the most that fits where it is
// more; Cost is exact.
type InvoiceTotal struct {
	Requests         int64  `json:"requests"`
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"completion_tokens"`
	Cost             string `json:"cost"`
	CostNano         int64  `json:"cost_nano"`
}

// Invoice is the lines of a month, by tenant and model.
type Invoice struct {
	Month string        `json:"month"`
	Lines []InvoiceLine `json:"lines"`
	Total InvoiceTotal  `json:"total"`
}

const (
	selectInvoice = `
select u.tenant as tenant_id, t.slug, u.model, sum(u.requests)::bigint as requests,
       sum(u.prompt_tokens)::bigint as prompt_tokens, sum(u.completion_tokens)::bigint as completion_tokens,
       least(sum(u.cost), 9223372036854775807)::bigint as cost_nano
  from usage_daily u join tenants t on t.id = u.tenant
 where u.day >= $1 and u.day < $2 and ($3 = '' or t.slug = $3 or t.id::text = $3)
 group by u.tenant, t.slug, u.model order by t.slug, u.tenant, u.model`

	selectKnown = `select exists (select from tenants t where t.slug = $1 or t.id::text = $1)`
)

// Invoice reads what was used in the month (its first moment): of the tenant with
// that slug or id, or of all when it is empty. Tenants that bore the slug before and
// are deleted have their lines too. ErrNotFound when there never was such a tenant.
func (c *Catalog) Invoice(ctx context.Context, tenant string, month time.Time) (Invoice, error) {
	const op = "read invoice"
	in := Invoice{Month: month.Format(MonthLayout)}
	var known bool
	var batch pgx.Batch
	collect(&batch, &in.Lines, selectInvoice, month, month.AddDate(0, 1, 0), tenant)
	batch.Queue(selectKnown, tenant).QueryRow(func(row pgx.Row) error { return row.Scan(&known) })
	if err := c.writer.SendBatch(ctx, &batch).Close(); err != nil {
		return Invoice{}, wrap(op, err)
	}
	if !known && tenant != "" {
		return Invoice{}, fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	if in.Lines == nil {
		in.Lines = []InvoiceLine{}
	}
	used := make([]Usage, len(in.Lines))
	for i := range in.Lines {
		l := &in.Lines[i]
		l.Month, l.Cost = in.Month, Decimal(l.CostNano)
		used[i] = Usage{Requests: l.Requests, PromptTokens: l.PromptTokens, CompletionTokens: l.CompletionTokens, Cost: l.CostNano}
	}
	in.Total = TotalOf(used)
	return in, nil
}

// TotalOf sums what was used.
func TotalOf(list []Usage) (t InvoiceTotal) {
	sum := new(big.Int)
	for _, u := range list {
		t.Requests += u.Requests
		t.PromptTokens += u.PromptTokens
		t.CompletionTokens += u.CompletionTokens
		sum.Add(sum, big.NewInt(u.Cost))
	}
	t.Cost, t.CostNano = decimal(sum), int64(math.MaxInt64)
	if sum.IsInt64() {
		t.CostNano = sum.Int64()
	}
	return t
}
