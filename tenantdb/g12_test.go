package tenantdb_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

// What an owner or a superuser can do to a sealed audit; SQL of each tampering, with
// what the report has to hold. The row that is meant is seal 1's second.
var tamperings = map[string]struct{ sql, why string }{
	"id":                         {`update freehold.audit_log set id = gen_random_uuid() where seal = 1 and pos = 2`, "seal 1"},
	"at":                         {`update freehold.audit_log set at = at + interval '1 microsecond' where seal = 1 and pos = 2`, "seal 1"},
	"at, to none":                {`update freehold.audit_log set at = 'infinity' where seal = 1 and pos = 2`, "seal 1"},
	"actor":                      {`update freehold.audit_log set actor = 'key:other' where seal = 1 and pos = 2`, "seal 1"},
	"action":                     {`update freehold.audit_log set action = 'nothing' where seal = 1 and pos = 2`, "seal 1"},
	"subject":                    {`update freehold.audit_log set subject = '' where seal = 1 and pos = 2`, "seal 1"},
	"request id":                 {`update freehold.audit_log set request_id = 'x' where seal = 1 and pos = 2`, "seal 1"},
	"detail":                     {`update freehold.audit_log set detail = '{"n":2}' where seal = 1 and pos = 2`, "seal 1"},
	"detail's blanks":            {`update freehold.audit_log set detail = (detail::text || ' ')::json where seal = 1 and pos = 2`, "seal 1"},
	"payload hash":               {`update freehold.audit_log set payload_hash = sha256(payload_hash) where seal = 1 and pos = 1`, "seal 1"},
	"no payload hash":            {`update freehold.audit_log set payload_hash = null where seal = 1 and pos = 1`, "seal 1"},
	"operator's seq":             {`update freehold.audit_log set operator_seq = 8 where operator_seq = 9`, "seal 2"},
	"place":                      {`update freehold.audit_log set pos = 9 where seal = 1 and pos = 3`, "seal 1"},
	"unsealed again":             {`update freehold.audit_log set seal = null, pos = null where seal = 3`, "seal 3"},
	"row removed":                {`delete from freehold.audit_log where seal = 1 and pos = 2`, "seal 1"},
	"last row of a seal removed": {`delete from freehold.audit_log where seal = 1 and pos = 3`, "seal 1"},
	"row inserted": {`insert into freehold.audit_log (id, at, actor, action, seal, pos)
		values (gen_random_uuid(), now(), 'system', 'x', 2, 3)`, "seal 2"},
	"row inserted where another stands": {`drop index freehold.audit_sealed;
		insert into freehold.audit_log (id, at, actor, action, seal, pos)
		values (gen_random_uuid(), now(), 'system', 'x', 2, 1)`, "seal 2"},
	"row inserted without a place": {`alter table freehold.audit_log drop constraint audit_log_check;
		insert into freehold.audit_log (id, at, actor, action, seal) values (gen_random_uuid(), now(), 'system', 'x', 2)`, "inserted"},
	"row in no seal": {`insert into freehold.audit_log (id, at, actor, action, seal, pos)
		values (gen_random_uuid(), now(), 'system', 'x', 77, 1)`, "does not exist"},
	"row before all seals": {`insert into freehold.audit_log (id, at, actor, action, seal, pos)
		values (gen_random_uuid(), now(), 'system', 'x', 0, 1)`, "does not exist"},
	"places swapped": {`update freehold.audit_log set pos = 99 where seal = 1 and pos = 1;
		update freehold.audit_log set pos = 1 where seal = 1 and pos = 2;
		update freehold.audit_log set pos = 2 where seal = 1 and pos = 99`, "seal 1"},
	"moved to the next seal": {`update freehold.audit_log set seal = 2, pos = 3 where seal = 1 and pos = 3`, "seal 1"},
	"moved, and counted": {`update freehold.audit_log set seal = 2, pos = 0 where seal = 1 and pos = 3;
		update freehold.audit_log set pos = pos + 100 where seal = 2; update freehold.audit_log set pos = pos - 99 where seal = 2;
		update freehold.audit_seals set rows = 2 where n = 1; update freehold.audit_seals set rows = 3 where n = 2`, "seal 1"},
	"last seal removed":   {`delete from freehold.audit_log where seal = 3; delete from freehold.audit_seals where n = 3`, "end was removed"},
	"first seal removed":  {`delete from freehold.audit_log where seal = 1; delete from freehold.audit_seals where n = 1`, "seal 2 follows seal 0"},
	"middle seal removed": {`delete from freehold.audit_log where seal = 2; delete from freehold.audit_seals where n = 2`, "seal 3 follows seal 1"},
	"all removed":         {`delete from freehold.audit_log; delete from freehold.audit_seals`, "end was removed"},
	"seal's rows":         {`update freehold.audit_seals set rows = 2 where n = 2 and rows = 2; update freehold.audit_seals set rows = 9 where n = 2`, "signature of seal 2"},
	"seal's prev":         {`update freehold.audit_seals set prev = sha256(prev) where n = 2`, "seal 2"},
	"seal's head":         {`update freehold.audit_seals set head = sha256(head) where n = 2`, "seal 2"},
	"seal's time":         {`update freehold.audit_seals set sealed_at = sealed_at - interval '1 hour' where n = 2`, "signature of seal 2"},
	"seal's key":          {`update freehold.audit_seals set key_id = 8 where n = 2`, "not known"},
	"seal's signature":    {`update freehold.audit_seals set signature = sha512(signature) where n = 2`, "signature of seal 2"},
	"seal's number":       {`update freehold.audit_seals set n = 20 where n = 3; update freehold.audit_log set seal = 20 where seal = 3`, "seal 20 follows"},
	"seal without rows":   {`insert into freehold.audit_seals select 4, 1, head, head, now(), 7, signature from freehold.audit_seals where n = 3`, "signature of seal 4"},
}

// G12: what was done to a sealed audit is found, on line and in an export of it; what
// belongs to an audit's life is not.
func TestG12_TamperingIsFound(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	a.told()
	a.seal(0)
	whole := a.verified(true)
	if !whole.OK || whole.Rows != 6 || whole.N != 3 || whole.Unsealed != 0 || whole.Payloads.Same != 1 || whole.Payloads.Gone != 0 ||
		whole.Head != fmt.Sprintf("%x", a.head.Head) {
		t.Fatalf("untouched: %+v %+v", whole, whole.Payloads)
	}
	if file := a.file(a.exported(), a.public()); !file.OK || !file.Trusted || file.Rows != 6 || file.Head != whole.Head || file.Tenant != a.id.String() {
		t.Fatalf("untouched export: %+v", file)
	}
	for name, tc := range tamperings {
		// In a transaction of the superuser's that everybody reads in, and that ends.
		tx, err := a.super.Begin(t.Context())
		a.ok(err)
		_, err = tx.Exec(t.Context(), tc.sql)
		a.ok(err)
		within := *a
		bench := *a.bench
		bench.db = tenantdb.On(a.super, 10)
		within.bench = &bench
		got := within.verified(false)
		if got.OK || !strings.Contains(got.Why, tc.why) {
			t.Errorf("%s: %+v, want it to say %q", name, got, tc.why)
		}
		// An export is signed as of its making: that seals are missing at its end only
		// the catalog can tell.
		if ends := strings.Contains(tc.why, "end was removed"); !ends && name != "row in no seal" && name != "row inserted without a place" && name != "unsealed again" {
			if file := within.file(within.exported(), a.public()); file.OK {
				t.Errorf("%s: its export passes: %+v", name, file)
			}
		}
		a.ok(tx.Rollback(t.Context()))
	}
	if again := a.verified(true); !again.OK || again.Head != whole.Head {
		t.Errorf("afterwards: %+v", again)
	}
}

// Whoever has the database and not the key can make a chain that fits in itself; its
// signatures don't.
func TestG12_RewrittenWithoutTheKey(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	a.told()
	a.exec(`delete from freehold.audit_log where action = 'retention';
		update freehold.audit_log set seal = null, pos = null; delete from freehold.audit_seals`)
	thief := newSigner(7) // who claims the key's id
	thief.key = newSigner(8).key
	if _, n, err := a.db.Seal(t.Context(), a.id, thief.sign); err != nil || n != 5 {
		t.Fatal(n, err)
	}
	if got := a.verified(false); got.OK || !strings.Contains(got.Why, "signature of seal 1") {
		t.Errorf("rewritten: %+v", got)
	}
	// Another tenant's chain, signed well, is no chain of this one's.
	a.exec(`update freehold.audit_log set seal = null, pos = null; delete from freehold.audit_seals`)
	other := setup(t)
	if _, n, err := a.db.Seal(t.Context(), other.id, a.sign); err != nil || n != 5 {
		t.Fatal(n, err)
	}
	if got := a.verified(false); got.OK || !strings.Contains(got.Why, "signature of seal 1") {
		t.Errorf("another tenant's: %+v", got)
	}
	// With the key, but not where it was noted: the head outside differs.
	a.exec(`update freehold.audit_log set seal = null, pos = null; delete from freehold.audit_seals`)
	noted := a.head
	for range 3 {
		a.event("system", "more", nil)
		_, _, err := a.db.Seal(t.Context(), a.id, a.sign)
		a.ok(err)
	}
	a.head = noted
	if got := a.verified(false); got.OK || !strings.Contains(got.Why, "noted outside") {
		t.Errorf("replaced: %+v", got)
	}
}

// Retention, erasure and a restore are part of the audit's life: payloads go, the
// chain stays. A payload that was changed in place is found.
func TestG12_RetentionErasureAndRestore(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	kept, erased := a.predicted(`"kept"`), a.predicted(`"erased"`)
	dropped := a.predicted(`"dropped"`)
	a.seal(3)
	a.exec(`update freehold.predictions set input = null, output = null, salt = null, erased_at = now() where id = $1`, erased)
	a.exec(`delete from freehold.predictions where id = $1`, dropped)
	a.event("key:key_1", "prediction.erase", map[string]any{"rows": 1})
	a.event("system", "retention", map[string]any{"rows": 1})
	a.seal(2)
	if got := a.verified(true); !got.OK || got.Payloads.Same != 1 || got.Payloads.Gone != 2 {
		t.Errorf("after retention: %+v %+v", got, got.Payloads)
	}

	// Restored from a backup of an hour ago: the last seal isn't there, which is found
	// until it is said outside that it was restored; then the chain goes on.
	a.exec(`delete from freehold.audit_log where seal = 2; delete from freehold.audit_seals where n = 2`)
	if got := a.verified(true); got.OK || got.BadSeal != 2 {
		t.Errorf("restored, and not said: %+v", got)
	}
	a.event("operator:ann", "tenant.restore", map[string]any{"from_seal": 1})
	a.seal(1)
	a.event("system", "goes on", nil)
	a.seal(1)
	if got := a.verified(true); !got.OK || got.N != 3 || got.Rows != 5 {
		t.Errorf("restored: %+v", got)
	}

	a.exec(`update freehold.predictions set output = '"kept!"' where id = $1`, kept)
	if got := a.verified(true); got.OK || got.BadRow != kept.String() || got.BadSeal != 1 {
		t.Errorf("a payload was changed: %+v", got)
	}
	if got := a.verified(false); !got.OK {
		t.Errorf("payloads were not asked for: %+v", got)
	}
}

// The tenant's own role adds rows and has them sealed, and changes none.
func TestG12_TheTenantsRoleChangesNothing(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	a.told()
	denied := func(sql string) {
		t.Helper()
		_, err := a.conn.Exec(t.Context(), sql)
		if got := tenantdb.Translate(t.Context(), err); got == nil || !strings.Contains(got.Error(), "42501") {
			t.Errorf("%s: %v", sql, got)
		}
	}
	for _, sql := range []string{
		`update freehold.audit_log set actor = 'x'`,
		`update freehold.audit_log set seal = null, pos = null`,
		`delete from freehold.audit_log`,
		`truncate freehold.audit_log`,
		`insert into freehold.audit_log (id, at, actor, action, seal, pos) values (gen_random_uuid(), now(), 'x', 'x', 3, 2)`,
		`insert into freehold.audit_seals select 4, 1, head, head, now(), 7, signature from freehold.audit_seals where n = 3`,
		`update freehold.audit_seals set n = n + 1`,
		`delete from freehold.audit_seals`,
		`alter table freehold.audit_log disable trigger all`,
		`drop table freehold.audit_seals`,
		`create or replace function freehold.seal_audit(bigint, uuid[], bytea, bytea, timestamptz, bigint, bytea) returns void language sql as ''`,
	} {
		if strings.HasPrefix(sql, "alter") || strings.HasPrefix(sql, "drop") || strings.HasPrefix(sql, "create") {
			_, err := a.conn.Exec(t.Context(), sql)
			if err == nil {
				t.Errorf("%s: done", sql)
			}
			continue
		}
		denied(sql)
	}
	// seal_audit itself takes nothing but the next seal over rows that are free.
	var id uuid.UUID
	a.ok(a.super.QueryRow(t.Context(), `select id from freehold.audit_log where seal = 3`).Scan(&id))
	a.event("system", "free", nil)
	var free uuid.UUID
	a.ok(a.super.QueryRow(t.Context(), `select id from freehold.audit_log where seal is null`).Scan(&free))
	hash := sha256.Sum256(nil)
	for name, args := range map[string][]any{
		"a number that is taken": {3, []uuid.UUID{free}, a.head.Head},
		"a number too far":       {5, []uuid.UUID{free}, a.head.Head},
		"another head before":    {4, []uuid.UUID{free}, hash[:]},
		"a sealed row":           {4, []uuid.UUID{id}, a.head.Head},
		"one of each":            {4, []uuid.UUID{free, id}, a.head.Head},
		"no rows":                {4, []uuid.UUID{}, a.head.Head},
		"a row twice":            {4, []uuid.UUID{free, free}, a.head.Head},
		"a row that isn't there": {4, []uuid.UUID{uuid.New()}, a.head.Head},
	} {
		_, err := a.conn.Exec(t.Context(), `select freehold.seal_audit($1, $2, $3, $4, $5, 7, 'x')`, args[0], args[1], args[2], hash[:], time.Now())
		if got := tenantdb.Translate(t.Context(), err); got == nil || !strings.Contains(got.Error(), "FH002") {
			t.Errorf("%s: %v", name, got)
		}
	}
	a.seal(1)
	if got := a.verified(false); !got.OK || got.N != 4 {
		t.Errorf("afterwards: %+v", got)
	}
}
