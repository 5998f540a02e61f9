package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// What a tenant did lies in the past, in its order, under ids that say when.
func TestHistory(t *testing.T) {
	t.Parallel()
	const n = 200
	began := time.Now().AddDate(0, 0, -7*tenantWeeks)
	h := &history{left: n, at: began, every: time.Minute, random: rand.New(rand.NewPCG(1, 2))}
	h.learn()
	var ids []string
	for h.Next() {
		row, err := h.Values()
		if err != nil || len(row) != len(historyColumns) {
			t.Fatalf("%d values for %d columns, %v", len(row), len(historyColumns), err)
		}
		id := h.id() // of the same moment as the row's
		if id.Version() != 7 {
			t.Fatalf("version %d", id.Version())
		}
		sec, nsec := id.Time().UnixTime()
		if at := time.Unix(sec, nsec); h.at.Sub(at).Abs() > 2*time.Millisecond {
			t.Fatalf("the id says %s, the row %s", at, h.at)
		}
		ids = append(ids, id.String())
	}
	if len(ids) != n || !slices.IsSorted(ids) {
		t.Errorf("%d rows, in order: %t", len(ids), slices.IsSorted(ids))
	}
}

func TestPartsOfALog(t *testing.T) {
	t.Parallel()
	began := time.UnixMilli(1_700_000_000_000)
	p, ok := parsePart("1700000000.500 42 LOG:  duration: 200.000 ms  execute <unnamed>: select 1", began)
	if !ok || p.what != "execute <unnamed>: select 1" || p.end.Round(time.Millisecond) != 500*time.Millisecond ||
		p.begun.Round(time.Millisecond) != 300*time.Millisecond {
		t.Errorf("%+v %t", p, ok)
	}
	for _, line := range []string{
		"", "1700000000.500 42 LOG:  checkpoint starting: time", "\tfrom t", "x 42 LOG:  duration: 1.0 ms  statement: x",
	} {
		if p, ok := parsePart(line, began); ok {
			t.Errorf("%q is %+v", line, p)
		}
	}
	ms := func(from, to int) part {
		return part{begun: time.Duration(from) * time.Millisecond, end: time.Duration(to) * time.Millisecond}
	}
	if got := covered([]part{ms(50, 60), ms(0, 10), ms(5, 20), ms(6, 8)}); got != 30*time.Millisecond {
		t.Errorf("covered %s", got)
	}
	if got := shorten(strings.Repeat("ab ", 100) + "end"); !strings.HasSuffix(got, "end") || len(got) > tellWidth+5 {
		t.Errorf("shortened to %q", got)
	}
}
