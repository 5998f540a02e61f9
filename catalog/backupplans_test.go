package catalog_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"freehold/catalog"
)

func TestBackupPlans(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const day = 24 * time.Hour
	gold := catalog.BackupPlan{Plan: "gold", Every: 6 * time.Hour, Keep: 90 * day, ProveEvery: 7 * day}
	for range 2 {
		set, err := b.cat.SetBackupPlan(t.Context(), gold)
		b.ok(err)
		if set.UpdatedAt.IsZero() {
			t.Errorf("set %+v", set)
		}
	}
	_, err := b.cat.SetBackupPlan(t.Context(), catalog.BackupPlan{Keep: 20 * day}) // all others: never
	b.ok(err)
	list, err := b.cat.BackupPlans(t.Context())
	b.ok(err)
	if len(list) != 2 || list[0].Plan != "" || list[0].Every != 0 || list[0].Keep != 20*day || list[0].ProveEvery != 0 ||
		list[1].Plan != "gold" || list[1].Every != gold.Every || list[1].Keep != gold.Keep || list[1].ProveEvery != gold.ProveEvery {
		t.Errorf("plans %+v", list)
	}
	for _, bad := range []catalog.BackupPlan{
		{Plan: "Gold!", Every: time.Hour, Keep: day}, {Every: time.Second, Keep: day}, {Every: time.Hour},
		{Every: -time.Hour, Keep: day}, {Every: time.Hour, Keep: day, ProveEvery: 1},
	} {
		_, err := b.cat.SetBackupPlan(t.Context(), bad)
		b.is(err, catalog.ErrInvalid)
	}
	b.ok(b.cat.RemoveBackupPlan(t.Context(), "gold"))
	b.is(b.cat.RemoveBackupPlan(t.Context(), ""), catalog.ErrInvalid)
}

// A view a tenant: what its newest backup is, whether that is old, and what the last
// proof said.
func TestBackupViews(t *testing.T) {
	t.Parallel()
	b := setupBackups(t)
	ctx := t.Context()
	never := b.tenant("never")
	b.exec(b.conn, `update tenants set created_at = now() - interval '3 days' where id = $1`, never.ID)
	young := b.tenant("young")
	asleep := b.tenant("asleep") // suspended since before its last backup
	_, err := b.cat.SetState(ctx, asleep.ID, catalog.Suspended, catalog.Active)
	b.ok(err)
	b.made(asleep.ID, 5*24*time.Hour)
	b.exec(b.conn, `update tenants set updated_at = now() - interval '6 days' where id = $1`, asleep.ID)
	b.made(b.acme.ID, 50*time.Hour)
	proved := b.made(b.acme.ID, 40*time.Hour)
	broken := b.made(b.acme.ID, 30*time.Hour)
	b.made(b.acme.ID, 26*time.Hour)
	b.ok(b.cat.ProveTenantBackup(ctx, proved.ID, ""))
	b.ok(b.cat.ProveTenantBackup(ctx, broken.ID, "no"))

	shown := func(f catalog.BackupFilter) []string {
		t.Helper()
		list, err := b.cat.BackupViews(ctx, f)
		b.ok(err)
		var rows []string
		for _, v := range list {
			rows = append(rows, fmt.Sprintf("%s %v %d/%d %v %q %v", v.Slug, v.NewestAt != nil, int(v.Age.Hours()), int(v.Target.Hours()), v.Overdue, v.ProofError, v.ProvedAt != nil))
		}
		return rows
	}
	acme, slept, nothing, fresh := `acme true 26/24 true "no" true`, `asleep true 120/360 false "" false`, `never false 72/24 true "" false`, `young false 0/24 false "" false`
	for _, c := range []struct {
		filter catalog.BackupFilter
		want   []string
	}{
		{catalog.BackupFilter{}, []string{acme, slept, nothing, fresh}},
		{catalog.BackupFilter{OverdueOnly: true}, []string{acme, nothing}},
		{catalog.BackupFilter{OlderThan: 24 * time.Hour}, []string{acme, slept, nothing}},
		{catalog.BackupFilter{OlderThan: 48 * time.Hour, Worst: true}, []string{slept, nothing}},
		{catalog.BackupFilter{After: "acme", Limit: 1}, []string{slept}},
	} {
		if got := shown(c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%+v:\nhave %q\nwant %q", c.filter, got, c.want)
		}
	}
	_, err = b.cat.BackupViews(ctx, catalog.BackupFilter{OlderThan: -1})
	b.is(err, catalog.ErrInvalid)

	// Whose turn it is: not who is busy, or failed a moment ago, or has time.
	owed := func(atOnce, perServer int) (slugs []string) {
		t.Helper()
		list, err := b.cat.BackupsOwed(ctx, atOnce, perServer)
		b.ok(err)
		for _, o := range list {
			slugs = append(slugs, o.Slug)
		}
		return slugs
	}
	if got := owed(10, 10); !slices.Equal(got, []string{"never", "acme"}) {
		t.Errorf("owed %q", got)
	}
	if got := owed(1, 10); !slices.Equal(got, []string{"never"}) {
		t.Errorf("owed at once %q", got)
	}
	o := b.begin(young.ID) // asked for by a person
	if got := owed(10, 1); len(got) > 0 {
		t.Errorf("owed on a server that has one at work %q", got)
	}
	if got := owed(2, 10); !slices.Equal(got, []string{"never"}) {
		t.Errorf("owed beside one at work %q", got)
	}
	b.ok(b.cat.EndOperation(ctx, o, catalog.OperationDone, "", 0))
	o = b.begin(never.ID)
	if got := owed(10, 10); !slices.Equal(got, []string{"acme"}) {
		t.Errorf("owed beside one at work %q", got)
	}
	b.ok(b.cat.EndOperation(ctx, o, catalog.OperationFailed, "no", 0))
	if got := owed(10, 10); !slices.Equal(got, []string{"acme"}) {
		t.Errorf("owed after a failure %q", got)
	}
	b.exec(b.conn, `update operations set ended_at = now() - interval '1 hour' where id = $1`, o.ID)
	if got := owed(10, 10); !slices.Equal(got, []string{"never", "acme"}) {
		t.Errorf("owed an hour after a failure %q", got)
	}
	down := catalog.ServerDown
	_, err = b.cat.SetServer(ctx, "pg-1", catalog.ServerPatch{State: &down})
	b.ok(err)
	if got := owed(10, 10); len(got) > 0 {
		t.Errorf("owed on a server that is down %q", got)
	}
}

// Of each server one backup is to be proved: the newest of whoever waits longest.
func TestProofsOwed(t *testing.T) {
	t.Parallel()
	b := setupBackups(t)
	ctx := t.Context()
	globex := b.tenant("globex")
	owed := func(want ...string) {
		t.Helper()
		list, err := b.cat.ProofsOwed(ctx)
		b.ok(err)
		var ids []string
		for _, o := range list {
			ids = append(ids, o.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("owed %q, want %q", ids, want)
		}
	}
	owed()
	b.made(b.acme.ID, 50*time.Hour)
	acme, other := b.made(b.acme.ID, time.Hour), b.made(globex.ID, time.Hour)
	b.ok(b.cat.ProveTenantBackup(ctx, acme.ID, ""))
	owed(other.ID)
	b.ok(b.cat.ProveTenantBackup(ctx, other.ID, "no")) // until there is a newer one
	owed()
	b.exec(b.conn, `update tenant_backups set proved_at = proved_at - interval '31 days' where id = $1`, acme.ID)
	owed(acme.ID)
	newer := b.made(globex.ID, 0)
	owed(newer.ID)
	_, err := b.cat.SetBackupPlan(ctx, catalog.BackupPlan{Every: time.Hour, Keep: 24 * time.Hour})
	b.ok(err)
	owed()
}
