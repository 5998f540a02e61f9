package catalog_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
)

// mailed makes an active tenant with an address, and returns its welcome mail.
func (b *bench) mailed(slug string) (catalog.Tenant, catalog.Mail) {
	b.Helper()
	if list, err := b.cat.Servers(b.Context()); err != nil || len(list) == 0 {
		b.ok(err)
		b.server("pg-1")
	}
	made, err := b.cat.CreateTenant(b.Context(), catalog.TenantSpec{Slug: slug, Name: "Ünïcode " + slug, Email: slug + "@example.com"}, here())
	b.ok(err)
	b.ok(b.cat.ActivateTenant(b.Context(), made.Tenant.ID))
	b.ok(b.cat.EndOperation(b.Context(), made.Operation, catalog.OperationDone, "", 0))
	list, err := b.cat.OutboxMail(b.Context(), catalog.MailFilter{Tenant: slug})
	b.ok(err)
	if len(list) != 1 {
		b.Fatalf("%s is owed %d mails, want 1", slug, len(list))
	}
	return made.Tenant, list[0]
}

// mail reads one as it is now.
func (b *bench) mail(id string) catalog.Mail {
	b.Helper()
	list, err := b.cat.OutboxMail(b.Context(), catalog.MailFilter{})
	b.ok(err)
	i := slices.IndexFunc(list, func(m catalog.Mail) bool { return m.ID == id })
	if i < 0 {
		b.Fatalf("mail %s isn't listed", id)
	}
	return list[i]
}

func (b *bench) take(n int) []catalog.Mail {
	b.Helper()
	list, err := b.cat.TakeMail(b.Context(), n)
	b.ok(err)
	return list
}

func TestMail_owedWithTheTenant(t *testing.T) {
	t.Parallel()
	b := setup(t)
	acme, m := b.mailed("acme")
	keys, err := b.cat.Keys(t.Context(), acme.ID)
	b.ok(err)
	if m.TenantID != acme.ID || m.Kind != catalog.MailWelcome || m.Recipient != "acme@example.com" || m.Name != "Ünïcode acme" ||
		m.State != catalog.MailWaiting || m.Attempts != 0 || string(m.Detail) != `{"key": "`+keys[0].ID+`"}` {
		t.Errorf("owed %+v %s", m, m.Detail)
	}
	b.ok(b.cat.ActivateTenant(t.Context(), acme.ID)) // twice is once
	b.tenant("nobody")                               // has no address
	if list, err := b.cat.OutboxMail(t.Context(), catalog.MailFilter{}); err != nil || len(list) != 1 {
		t.Errorf("%d mails: %v", len(list), err)
	}
}

// What is taken is nobody else's for two minutes, and anybody's afterwards.
func TestTakeMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, slug := range []string{"aa", "bb", "cc", "dd", "ee"} {
		b.mailed(slug)
	}
	other := b.open()
	var mu sync.Mutex
	seen := map[string]int{}
	var all sync.WaitGroup
	for _, c := range []*catalog.Catalog{b.cat, other, b.cat, other} {
		all.Go(func() {
			list, err := c.TakeMail(t.Context(), 2)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			for _, m := range list {
				seen[m.Slug]++
			}
		})
	}
	all.Wait()
	for _, m := range b.take(1000) { // takers that looked at the same moment passed each other's by
		seen[m.Slug]++
	}
	if len(seen) != 5 || seen["aa"]+seen["bb"]+seen["cc"]+seen["dd"]+seen["ee"] != 5 {
		t.Errorf("taken: %v", seen)
	}
	admin := b.admin()
	ahead := b.number(admin, `select count(*) from mail_outbox where next_at between now() + interval '100 s' and now() + interval '2 min'`)
	if list := b.take(10); len(list) != 0 || ahead != 5 {
		t.Errorf("%d taken twice, %d pushed ahead", len(list), ahead)
	}
	b.exec(admin, `update mail_outbox set next_at = now() - interval '1 s'`)
	if list := b.take(10); len(list) != 5 || list[0].Slug != "aa" {
		t.Errorf("%d taken after two minutes", len(list))
	}
	_, err := b.cat.TakeMail(t.Context(), 0)
	b.is(err, catalog.ErrInvalid)
}

func TestMailSent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, m := b.mailed("acme")
	b.take(1)
	b.ok(b.cat.MailSent(t.Context(), m.ID))
	first := b.mail(m.ID)
	b.ok(b.cat.MailSent(t.Context(), m.ID))
	// A sender that is late can't undo it.
	if givenUp, err := b.cat.MailFailed(t.Context(), m.ID, "late", true); err != nil || givenUp {
		t.Errorf("given up %v: %v", givenUp, err)
	}
	after := b.mail(m.ID)
	if after.State != catalog.MailSent || after.Error != "" || after.Attempts != 0 || !after.SentAt.Equal(*first.SentAt) {
		t.Errorf("sent: %+v", after)
	}
	b.exec(b.admin(), `update mail_outbox set next_at = now() - interval '1 h'`)
	if list := b.take(10); len(list) != 0 {
		t.Error("a sent mail is taken again")
	}
	_, err := b.cat.RetryMail(t.Context(), m.ID)
	b.is(err, catalog.ErrConflict)
	b.ok(b.cat.MailSent(t.Context(), uuid.NewString())) // went with its tenant
}

// Thirty seconds, doubled up to an hour, give or take a fifth; after three days of
// it there is no next time.
func TestMailFailed_backsOff(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, m := b.mailed("acme")
	var total time.Duration
	for try := 1; ; try++ {
		givenUp, err := b.cat.MailFailed(t.Context(), m.ID, "no answer in time", false)
		b.ok(err)
		now := b.mail(m.ID)
		if now.Attempts != try || now.Error != "no answer in time" {
			t.Fatalf("after try %d: %+v", try, now)
		}
		if givenUp {
			if now.State != catalog.MailGivenUp || now.GivenUpAt == nil {
				t.Errorf("given up: %+v", now)
			}
			break
		}
		want := min(30*time.Second<<(min(try, 12)-1), time.Hour)
		got := time.Duration(b.number(b.admin(), `select (extract(epoch from next_at - now()) * 1000)::bigint from mail_outbox`)) * time.Millisecond
		if got < want*8/10-10*time.Second || got > want*12/10+time.Second || try > 200 {
			t.Fatalf("after try %d the next is in %s, want about %s", try, got, want)
		}
		total += want
	}
	if total < 71*time.Hour || total > 73*time.Hour {
		t.Errorf("given up after %s", total)
	}
}

func TestStuckMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	admin := b.admin()
	ctx := t.Context()
	stuck := func() (slugs []string) {
		t.Helper()
		list, err := b.cat.StuckMail(ctx)
		b.ok(err)
		for _, m := range list {
			slugs = append(slugs, m.Slug)
		}
		return slugs
	}
	_, refused := b.mailed("refused")
	_, failing := b.mailed("failing")
	b.mailed("fresh")
	_, sent := b.mailed("sent")
	gone, lost := b.mailed("gone")
	if givenUp, err := b.cat.MailFailed(ctx, refused.ID, strings.Repeat("é", 400)+"\x00", true); err != nil || !givenUp {
		t.Fatalf("given up %v: %v", givenUp, err)
	}
	_, err := b.cat.MailFailed(ctx, failing.ID, "reply 451", false)
	b.ok(err)
	_, err = b.cat.MailFailed(ctx, lost.ID, "reply 550", true)
	b.ok(err)
	b.ok(b.cat.MailSent(ctx, sent.ID))
	if got := stuck(); !slices.Equal(got, []string{"refused", "gone"}) {
		t.Errorf("stuck: %v", got)
	}
	if n := len(b.mail(refused.ID).Error); n == 0 || n > 500 {
		t.Errorf("%d bytes of an error", n)
	}
	b.exec(admin, `update mail_outbox set created_at = now() - interval '16 min'`)
	if got := stuck(); !slices.Equal(got, []string{"refused", "failing", "gone"}) { // fresh: nobody has tried
		t.Errorf("stuck after a quarter of an hour: %v", got)
	}
	_, err = b.cat.SetState(ctx, gone.ID, catalog.Deleting, catalog.Active)
	b.ok(err)
	if got := stuck(); !slices.Equal(got, []string{"refused", "failing"}) { // no retry would send it
		t.Errorf("stuck with one that is being deleted: %v", got)
	}
	_, err = b.cat.SetState(ctx, gone.ID, catalog.Deleted, catalog.Deleting)
	b.ok(err)
	m, err := b.cat.RetryMail(ctx, refused.ID)
	b.ok(err)
	if m.State != catalog.MailWaiting || m.Attempts != 0 || m.Error != "" || m.GivenUpAt != nil {
		t.Errorf("retried: %+v", m)
	}
	if got := stuck(); !slices.Equal(got, []string{"failing"}) {
		t.Errorf("stuck after the retry: %v", got)
	}
	if list := b.take(10); len(list) != 2 || list[0].Slug != "refused" || list[1].Slug != "fresh" {
		t.Errorf("due: %+v", list)
	}
	for _, id := range []string{"", "x", uuid.NewString()} {
		_, err := b.cat.RetryMail(ctx, id)
		b.is(err, catalog.ErrNotFound)
	}
}

// A tenant that is being deleted is written to when it comes back, a deleted one
// never.
func TestMail_ofDeletedTenants(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	acme, m := b.mailed("acme")
	state := func(to catalog.State, from ...catalog.State) {
		t.Helper()
		_, err := b.cat.SetState(ctx, acme.ID, to, from...)
		b.ok(err)
	}
	state(catalog.Deleting, catalog.Active)
	if list := b.take(10); len(list) != 0 {
		t.Error("taken while its tenant is being deleted")
	}
	state(catalog.Suspended, catalog.Deleting)
	if list := b.take(10); len(list) != 1 {
		t.Error("not taken after its tenant came back")
	}
	state(catalog.Deleting, catalog.Suspended)
	state(catalog.Deleted, catalog.Deleting)
	b.exec(b.admin(), `update mail_outbox set next_at = now() - interval '1 h'`)
	if list := b.take(10); len(list) != 0 || b.mail(m.ID).State != catalog.MailCancelled {
		t.Errorf("taken after its tenant is deleted: %v", list)
	}
	_, err := b.cat.RetryMail(ctx, m.ID)
	b.is(err, catalog.ErrConflict)
}

func TestOutboxMail_filters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, aa := b.mailed("aa")
	_, bb := b.mailed("bb")
	b.mailed("cc")
	b.ok(b.cat.MailSent(t.Context(), bb.ID))
	for _, c := range []struct {
		filter catalog.MailFilter
		want   string
	}{
		{catalog.MailFilter{}, "cc bb aa"},
		{catalog.MailFilter{Limit: 2}, "cc bb"},
		{catalog.MailFilter{After: bb.ID}, "aa"},
		{catalog.MailFilter{After: aa.ID}, ""},
		{catalog.MailFilter{State: "sent"}, "bb"},
		{catalog.MailFilter{State: "waiting", Limit: 1}, "cc"},
		{catalog.MailFilter{Tenant: "aa"}, "aa"},
		{catalog.MailFilter{Kind: "welcome", Tenant: "bb"}, "bb"},
		{catalog.MailFilter{Kind: "bill"}, ""},
	} {
		list, err := b.cat.OutboxMail(t.Context(), c.filter)
		b.ok(err)
		var slugs []string
		for _, m := range list {
			slugs = append(slugs, m.Slug)
		}
		if got := strings.Join(slugs, " "); got != c.want {
			t.Errorf("%+v: %q, want %q", c.filter, got, c.want)
		}
	}
	for _, f := range []catalog.MailFilter{{State: "happy"}, {After: "x"}, {Limit: -1}} {
		_, err := b.cat.OutboxMail(t.Context(), f)
		b.is(err, catalog.ErrInvalid)
	}
}
