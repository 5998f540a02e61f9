package catalog_test

import (
	"errors"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"freehold/catalog"
)

func TestDecimal(t *testing.T) {
	t.Parallel()
	for nano, want := range map[int64]string{
		0: "0.00", 1: "0.000000001", 10_000_000: "0.01", 1_500_000_000: "1.50", 1_234_567_890: "1.23456789",
		-1: "-0.000000001", math.MaxInt64: "9223372036.854775807", math.MinInt64: "-9223372036.854775808",
	} {
		if got := catalog.Decimal(nano); got != want {
			t.Errorf("%d: %s, want %s", nano, got, want)
		}
	}
	// Whoever reads the text has the number back, exactly.
	rapid.Check(t, func(t *rapid.T) {
		nano := rapid.Int64().Draw(t, "nano")
		back, ok := new(big.Rat).SetString(catalog.Decimal(nano))
		if !ok || back.Cmp(big.NewRat(nano, 1_000_000_000)) != 0 {
			t.Errorf("%d became %s", nano, catalog.Decimal(nano))
		}
	})
}

func TestParseMonth(t *testing.T) {
	t.Parallel()
	got, err := catalog.ParseMonth("month", "2026-11")
	if err != nil || !got.Equal(time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%s, %v", got, err)
	}
	for _, text := range []string{"", "2026", "2026-1", "2026-13", "2026-11-01", "26-11", "0000-01", " 2026-11", "2026-11\x00"} {
		if _, err := catalog.ParseMonth("month", text); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestInvoice(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, globex := b.tenant("acme"), b.tenant("globex")
	day := func(month, d int, model string, n int64) catalog.Usage {
		return catalog.Usage{
			Day: time.Date(2026, time.Month(month), d, 0, 0, 0, 0, time.UTC), Model: model, Requests: n, PromptTokens: 10 * n, CompletionTokens: n, Cost: 1_000_000_000 * n,
		}
	}
	b.ok(b.cat.RollUp(ctx, acme.ID, []catalog.Usage{day(10, 31, "m", 1), day(11, 1, "m", 2), day(11, 30, "m", 3), day(11, 2, "a", 4), day(12, 1, "m", 5)}))
	less := day(11, 30, "m", 1)
	less.Requests = 3
	b.ok(b.cat.RollUp(ctx, acme.ID, []catalog.Usage{less})) // what was used can't become less
	b.ok(b.cat.RollUp(ctx, globex.ID, []catalog.Usage{day(11, 1, "m", 7)}))
	month := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	line := func(tenant catalog.Tenant, model string, n int64, cost string) catalog.InvoiceLine {
		return catalog.InvoiceLine{
			Month: "2026-11", TenantID: tenant.ID, Slug: tenant.Slug, Model: model, Requests: n, PromptTokens: 10 * n, CompletionTokens: n, Cost: cost, CostNano: 1_000_000_000 * n,
		}
	}
	check := func(tenant string, total catalog.InvoiceTotal, want ...catalog.InvoiceLine) {
		b.Helper()
		got, err := b.cat.Invoice(ctx, tenant, month)
		b.ok(err)
		if got.Month != "2026-11" || got.Total != total || len(got.Lines) != len(want) {
			t.Fatalf("%q: %+v", tenant, got)
		}
		for i := range want {
			if got.Lines[i] != want[i] {
				t.Errorf("%q: line %+v, want %+v", tenant, got.Lines[i], want[i])
			}
		}
	}
	ofAcme := []catalog.InvoiceLine{line(acme, "a", 4, "4.00"), line(acme, "m", 5, "5.00")}
	sum := func(n int64, cost string) catalog.InvoiceTotal {
		return catalog.InvoiceTotal{Requests: n, PromptTokens: 10 * n, CompletionTokens: n, Cost: cost, CostNano: 1_000_000_000 * n}
	}
	check("acme", sum(9, "9.00"), ofAcme...)
	check(acme.ID.String(), sum(9, "9.00"), ofAcme...)
	check("", sum(16, "16.00"), append(ofAcme, line(globex, "m", 7, "7.00"))...)
	if _, err := b.cat.Invoice(ctx, "nobody", month); !errors.Is(err, catalog.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}

	// A deleted tenant's lines stay, also beside those of who bears its slug now.
	conn := b.admin()
	b.exec(conn, "update tenants set state = 'deleted' where id = $1", globex.ID)
	check("globex", sum(7, "7.00"), line(globex, "m", 7, "7.00"))
	again := b.tenant("globex")
	b.ok(b.cat.RollUp(ctx, again.ID, []catalog.Usage{day(11, 1, "m", 1)}))
	check("globex", sum(8, "8.00"), line(globex, "m", 7, "7.00"), line(again, "m", 1, "1.00"))
	check(again.ID.String(), sum(1, "1.00"), line(again, "m", 1, "1.00"))

	// Sums that no number of 64 bits holds are told exactly in decimals.
	most := day(11, 5, "most", 1)
	most.Cost = math.MaxInt64
	b.ok(b.cat.RollUp(ctx, again.ID, []catalog.Usage{most}))
	got, err := b.cat.Invoice(ctx, again.ID.String(), month)
	b.ok(err)
	if got.Total.CostNano != math.MaxInt64 || got.Total.Cost != "9223372037.854775807" {
		t.Errorf("%+v", got.Total)
	}
	if n := strings.Count(got.Lines[1].Cost, "."); n != 1 {
		t.Errorf("%+v", got.Lines[1])
	}
}

// A month whose sum has no room is shown as the most there is, by both.
func TestUsage_overflow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme := b.tenant("acme")
	day := func(d int) catalog.Usage {
		return catalog.Usage{Day: time.Date(2026, 11, d, 0, 0, 0, 0, time.UTC), Model: "m", Requests: 1, Cost: math.MaxInt64}
	}
	b.ok(b.cat.RollUp(t.Context(), acme.ID, []catalog.Usage{day(1), day(2)}))
	in, err := b.cat.Invoice(t.Context(), "acme", day(1).Day)
	b.ok(err)
	by, err := b.cat.UsageByMonth(t.Context(), acme.ID)
	b.ok(err)
	if len(by) != 1 || by[0].Cost != math.MaxInt64 || in.Total.CostNano != math.MaxInt64 {
		t.Errorf("%+v %+v", by, in)
	}
}
