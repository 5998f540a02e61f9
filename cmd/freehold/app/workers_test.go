package app_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"freehold/catalog/catalogtest"
	"freehold/cmd/freehold/app"
)

// How a chore's run ended is known, however it ended; one that was stopped is as if
// it hadn't begun.
func TestRecorded(t *testing.T) {
	t.Parallel()
	cat, _ := catalogtest.Open(t)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for name, c := range map[string]struct {
		ctx  context.Context
		run  func(context.Context) error
		want string // how it is known; empty: done
	}{
		"done":      {t.Context(), func(context.Context) error { return nil }, ""},
		"failed":    {t.Context(), func(context.Context) error { return errors.New("no\x00room\xff") }, "noroom"},
		"late":      {late, func(ctx context.Context) error { return ctx.Err() }, "not done in its time"},
		"panicked":  {t.Context(), func(context.Context) error { panic("x") }, "it panicked"},
		"last done": {cancelled, func(context.Context) error { return nil }, ""},
		"stopped":   {cancelled, func(ctx context.Context) error { return ctx.Err() }, "-"},
	} {
		func() {
			defer func() { _ = recover() }()
			_ = app.Recorded(cat, name, c.run)(c.ctx)
		}()
		o, err := cat.Overview(t.Context(), 1)
		must(t, err)
		how := "-"
		for _, one := range o.Chores {
			if one.Name == name {
				how = one.Error
				if one.Failed != (how != "") {
					t.Errorf("%+v", one)
				}
			}
		}
		if c.want == "" && how != "" || !strings.HasPrefix(how, c.want) {
			t.Errorf("%s: known as %q, want %q", name, how, c.want)
		}
	}
	must(t, cat.ForgetChore(t.Context(), "failed"))
	if o, err := cat.Overview(t.Context(), 1); err != nil || len(o.Chores) != 4 {
		t.Errorf("%+v, %v", o.Chores, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
