package cli_test

import (
	"testing"

	"freehold/cmd/freehold/need"
)

// Backups that are late or broken, restores that nobody confirms, moves and drains
// that stand still, and what should have been dropped: each is named with its command.
func TestStatusOfUpkeep(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 9, 0)
	const op = "0a1b2c3d-0000-4000-8000-000000000001"
	w.exec(`update tenants set created_at = now() - interval '40 days'`)
	w.exec(`insert into catalog_backups (key, bytes, seq, made_at) values ('k', 1, 1, now())`)
	w.exec(`insert into tenant_backups (id, tenant, key, made_at, bytes, schema_version, server_version, proved_at)
		select gen_random_uuid(), id, 'k/' || slug, now() - interval '23 hours', 1, 4, 150000, now() from tenants`)
	w.exec(`insert into kept_databases (id, tenant, server_id, database, why, operation, drop_at, created_at)
		select gen_random_uuid(), id, server_id, 'kept_' || slug, case slug when 'far-1' then 'restored' else 'moved' end, gen_random_uuid(),
		       case slug when 'far-1' then null else now() + interval '1 hour' end, now() - interval '23 hours' from tenants where slug in ('far-1', 'far-2')`)
	w.exec(`insert into server_drains (id, server_id, actor, parallel, max_failures, lease_until)
		select gen_random_uuid(), id, 'x', 4, 1, now() + interval '10 seconds' from servers where name = 'far'`)
	w.exec(`update tenants set state = 'moving', before_move = 'active', updated_at = now() - interval '5 minutes' where slug = 'far-3'`)
	w.exec(`insert into operations (id, kind, tenant, actor, state, run_at, lease_until)
		select $1, 'move', id, 'x', 'running', now() - interval '5 minutes', now() + interval '10 seconds' from tenants where slug = 'far-3'`, op)
	w.status(0) // all of it is as it should be

	w.exec(`update tenant_backups set made_at = now() - interval '51 hours' where key in ('k/far-5', 'k/far-6', 'k/far-7')`)
	w.exec(`delete from tenant_backups where key = 'k/far-9'`)
	// A plan of its own, and one that wants none; a suspended tenant hasn't changed.
	w.exec(`insert into backup_plans (plan, every, keep, prove_every) values ('gold', '3 days', '30 days', '0'), ('none', '0', '1 day', '0')`)
	w.exec(`update tenants set plan = 'gold' where slug = 'far-5'`)
	w.exec(`update tenants set plan = 'none' where slug = 'far-6'`)
	text, s := w.status(1)
	if kinds(s) != need.BackupLate || s.Needs[0].Count != 2 || s.Needs[0].Names[0] != "far-9" {
		t.Errorf("late: %+v", s.Needs)
	}
	contain(t, text, "! 2 tenants outside the backup target: far-9, far-7; the worst: none in 40 days, want one every 24 h → freehold tenant list --backup-older-than 1d\n")

	w.exec(`update tenant_backups set made_at = now() where key = 'k/far-7'`)
	w.exec(`update tenants set created_at = now() where slug = 'far-9'`)
	w.exec(`update tenant_backups set proof_error = E'a seal\nis broken' where key = 'k/far-8'`)
	w.exec(`update kept_databases set created_at = now() - interval '26 hours'`)
	w.exec(`update server_drains set lease_until = now() - interval '3 minutes'`)
	w.exec(`update operations set lease_until = now() - interval '150 seconds'`)
	w.exec(`update kept_databases set drop_at = now() - interval '3 hours' where drop_at is not null`)
	text, s = w.status(1)
	if got := kinds(s); got != "move_stuck drain_unled operation_overdue backup_broken restore_unconfirmed kept_too_long" {
		t.Errorf("%s\n%s", got, text)
	}
	contain(t, text,
		"! far-3 is moving, and not served, for 2 min; nobody works on it → freehold worker\n",
		"! nobody has worked on the drain of server far for 3 min → freehold worker\n",
		"! 1 backup of far-8 could not be restored from on trial: a seal is broken → freehold tenant backup far-8 --prove\n",
		"! the restore of far-1 is unconfirmed for 26 h: the database from before is kept (tenant revert goes back to it) → freehold tenant confirm far-1\n",
		"! 1 database that tenants have left on far should have been dropped 3 h ago → freehold doctor\n",
	)

	w.exec(`insert into tenant_backups (id, tenant, key, made_at, bytes, schema_version, server_version, proved_at)
		select gen_random_uuid(), id, 'k/again', now(), 1, 4, 150000, now() from tenants where slug = 'far-8'`)
	w.exec(`delete from kept_databases`)
	w.exec(`update server_drains set state = 'halted', error = 'more than 1 failed'`)
	w.exec(`update operations set state = 'failed', error = 'no room', ended_at = now() - interval '2 minutes'`)
	text, s = w.status(1)
	if got := kinds(s); got != "move_stuck drain_halted operation_failed" {
		t.Errorf("%s\n%s", got, text)
	}
	contain(t, text,
		"! far-3 is moving, and not served, for 2 min; nobody works on it → freehold operation retry "+op+"\n",
		"! the drain of server far is halted: more than 1 failed → freehold server drain far\n",
		"! 1 operation failed (move) for far-3: no room → freehold operation retry "+op+"\n",
	)
}
