package api

import (
	"context"
	"time"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
	"freehold/tenantdb"
)

// usage is what a tenant used in a month, from its own ledger.
type usage struct {
	Object string      `json:"object"` // usage
	Month  string      `json:"month"`  // 2026-11
	Data   []usageLine `json:"data"`
	Total  usageTotal  `json:"total"`
	Limit  *usageLimit `json:"limit" doc:"Null for a month that is not the current one."`
}

type usageLine struct {
	Day              string `json:"day" doc:"In UTC."`
	Model            string `json:"model"`
	Requests         int64  `json:"requests"`
	PromptTokens     int64  `json:"prompt_tokens"`
	CompletionTokens int64  `json:"completion_tokens"`
	Cost             string `json:"cost" doc:"Decimal, in the currency of the bill."`
	CostNano         int64  `json:"cost_nano" doc:"The same in billionths."`
}

type usageTotal struct {
	catalog.InvoiceTotal
	TotalTokens int64 `json:"total_tokens"`
}

type usageLimit struct {
	Tokens    int64 `json:"tokens"`
	Used      int64 `json:"used"`
	Reserved  int64 `json:"reserved" doc:"What requests at work may still use."`
	Remaining int64 `json:"remaining"`
}

func (s *server) usage(ctx context.Context, who caller, r *rest.Request) (usage, error) {
	text := r.Query("month")
	if text == "" {
		text = time.Now().UTC().Format(catalog.MonthLayout)
	}
	month, err := catalog.ParseMonth("month", text)
	if err != nil {
		return usage{}, err
	}
	var used tenantdb.Usage
	err = who.tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
		used, err = db.Usage(ctx, month)
		return err
	})
	if err != nil {
		return usage{}, err
	}
	out := usage{Object: "usage", Month: text, Data: make([]usageLine, len(used.Lines))}
	sum := make([]catalog.Usage, len(used.Lines))
	for i, l := range used.Lines {
		out.Data[i] = usageLine{
			l.Day.Format(time.DateOnly), l.Model, l.Requests, l.PromptTokens, l.CompletionTokens, catalog.Decimal(l.Cost), l.Cost,
		}
		sum[i] = catalog.Usage{Requests: l.Requests, PromptTokens: l.PromptTokens, CompletionTokens: l.CompletionTokens, Cost: l.Cost}
	}
	total := catalog.TotalOf(sum)
	out.Total = usageTotal{total, total.PromptTokens + total.CompletionTokens}
	if used.Month.Equal(month) {
		limit := who.Config.MonthlyTokenLimit
		out.Limit = &usageLimit{limit, used.Used, used.Reserved, max(limit-used.Used-used.Reserved, 0)}
	}
	return out, nil
}
