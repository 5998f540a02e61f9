package fleet_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

// at writes a settled prediction of that moment, and names it for kept.
func (w *ward) at(name string, moment time.Time) {
	w.Helper()
	w.exec(`insert into freehold.predictions (id, request_id, api_key, kind, model, state, end_user, input, output, salt, created_at)
		values (freehold.uuid7_floor($2), $1, 'key_1', 'chat', 'm', 'succeeded', 'ann', '1', '2', 'salt', $2)`, name, moment)
}

// kept are the predictions that are left, by name; those without payload in brackets.
func (w *ward) kept() (names []string) {
	w.Helper()
	rows, _ := w.in.Query(w.Context(), `select case when num_nonnulls(input, output, salt) = 0 and end_user = '' then '(' || request_id || ')' else request_id end
		from freehold.predictions order by id`)
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.ok(err)
	return names
}

// told are retention's events in the audit, and how many rows each says that it took.
func (w *ward) told() (events []string) {
	w.Helper()
	rows, _ := w.in.Query(w.Context(), `select a.actor || ' ' || (a.detail->>'weeks') || ' ' || coalesce(a.detail->>'rows', (a.detail->>'payloads') || 'p')
		from freehold.audit_log a where a.action = 'retention' order by a.id`)
	events, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.ok(err)
	return events
}

// tomorrow visits as if nobody had looked after the tenant for a day.
func (w *ward) tomorrow() {
	w.Helper()
	_, err := w.catalogDB().Exec(w.Context(), "update tenant_due set daily_at = now() - interval '1 day'")
	w.ok(err)
	w.visit()
	if n := w.note(); n.Error != "" || !n.Daily {
		w.Errorf("the visit: %+v", n)
	}
}

func (w *ward) retain(days int) {
	w.Helper()
	_, err := w.fleet.PatchConfig(w.Context(), w.ID, catalog.ConfigPatch{PredictionLogRetentionDays: &days})
	w.ok(err)
	w.Tenant, err = w.cat.Tenant(w.Context(), w.ID)
	w.ok(err)
}

// weeksMade makes the weeks from then on.
func (w *ward) weeksMade(from time.Time, weeks int) {
	w.Helper()
	w.exec("set role freehold_owner")
	w.exec("select freehold.make_prediction_weeks($1, $2)", from, weeks)
	w.exec("reset role")
}

func (w *ward) weeks() int {
	w.Helper()
	return w.count("pg_inherits where inhparent = 'freehold.predictions'::regclass")
}

func TestRetention(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	today := time.Now().UTC().Truncate(24 * time.Hour)
	ago := func(days int) time.Time { return today.AddDate(0, 0, -days) }
	w.weeksMade(ago(60), 8)
	before := w.weeks()
	w.at("lost", ago(90)) // of a week that was never made
	w.at("old", ago(55))
	w.at("older week", ago(40))
	w.at("last moment", ago(30).Add(-time.Millisecond))
	w.at("first moment", ago(30))
	w.at("yesterday", ago(1))
	working := w.admitted() // and at work for ever so long
	w.exec("update freehold.predictions set id = freehold.uuid7_floor($2), request_id = 'working' where id = $1", working.ID, ago(55).Add(time.Hour))
	w.exec("update freehold.reservations set id = freehold.uuid7_floor($2), created_at = $2 where id = $1", working.ID, ago(55).Add(time.Hour))
	_, err := w.catalogDB().Exec(t.Context(), "insert into nodes (id, name, version, heartbeat_at) select $1, 'n', 'v', now() + interval '1 hour'",
		one[string](w.bench, w.in, "select node::text from freehold.reservations"))
	w.ok(err)
	w.settle(w.admitted())

	w.retain(3650)
	w.tomorrow()
	if got := w.kept(); len(got) != 8 || len(w.told()) != 0 {
		t.Errorf("kept for ten years: %q, %q", got, w.told())
	}
	w.retain(30)
	w.tomorrow()
	// A week in which one is at work is not dropped, and waits for it.
	if got := w.kept(); !slices.Equal(got, []string{"old", "working", "first moment", "yesterday", "req_1"}) {
		t.Errorf("kept %q", got)
	}
	rows := 0
	for _, event := range w.told() {
		var weeks, n int
		if _, err := fmt.Sscanf(event, "system %d %d", &weeks, &n); err != nil {
			t.Errorf("event %q", event)
		}
		rows += n
	}
	if rows != 3 || w.weeks() >= before {
		t.Errorf("%d rows told, %d of %d weeks are left: %q", rows, w.weeks(), before, w.told())
	}
	told := len(w.told())
	w.tomorrow()
	if n := len(w.told()); n != told || len(w.kept()) != 5 {
		t.Errorf("again: %q", w.told())
	}

	// From now on nothing is kept: rows live for a day, without what was said.
	w.exec("delete from freehold.reservations")
	w.retain(0)
	w.tomorrow()
	if got := w.kept(); !slices.Equal(got, []string{"(yesterday)", "(req_1)"}) {
		t.Errorf("kept %q", got)
	}
	if n := w.count("freehold.usage_ledger"); n != 1 {
		t.Errorf("the ledger has %d rows", n)
	}
	if n := w.count("freehold.audit_log where seal is null"); n != 0 {
		t.Errorf("%d rows of the audit without a seal", n)
	}
}

// Rows go in batches, of which each tells the audit what it took.
func TestRetentionInBatches(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	// Behind Monday's first moment of the week before last, in one that isn't over.
	today := time.Now().UTC().Truncate(24 * time.Hour)
	edge := today.AddDate(0, 0, -1)
	monday := edge.AddDate(0, 0, -(int(edge.Weekday())+6)%7)
	if edge.Equal(monday) {
		edge = edge.AddDate(0, 0, -1)
		monday = monday.AddDate(0, 0, -7)
	}
	days := int(today.Sub(edge) / (24 * time.Hour))
	w.weeksMade(monday, 2)
	w.exec(`insert into freehold.predictions (id, request_id, api_key, kind, model, state, input, created_at)
		select freehold.uuid7_floor($1::timestamptz + i * interval '1 millisecond'), 'r', 'k', 'chat', 'm', 'succeeded', '1', $1 from generate_series(1, 2345) i`, monday)
	w.retain(days)
	w.tomorrow()
	if got := w.told(); len(w.kept()) != 0 || !slices.Equal(got, []string{"system 0 2345"}) {
		t.Errorf("%d kept, told %q", len(w.kept()), got)
	}
}

// A week that somebody reads is kept for another day, and requests don't wait for
// who would drop it.
func TestRetentionWaitsForNobody(t *testing.T) {
	t.Parallel()
	w := setupWard(t)
	old := time.Now().AddDate(0, 0, -60)
	w.weeksMade(old, 1)
	w.at("old", old)
	w.retain(30)
	reader := w.super(w.Database)
	tx, err := reader.Begin(t.Context())
	w.ok(err)
	_, err = tx.Exec(t.Context(), "select count(*) from freehold.predictions")
	w.ok(err)
	stop, slowest := make(chan struct{}), make(chan time.Duration)
	go func() {
		var worst time.Duration
		for {
			select {
			case <-stop:
				slowest <- worst
				return
			default:
				began := time.Now()
				if err := w.admit(w.node, w.Epoch); err != nil {
					t.Error(err)
				}
				worst = max(worst, time.Since(began))
				time.Sleep(10 * time.Millisecond)
			}
		}
	}()
	w.tomorrow()
	close(stop)
	if worst := <-slowest; worst > 2*time.Second {
		t.Errorf("a request waited for %s", worst)
	}
	if got := w.kept(); len(got) == 0 || got[0] != "old" || len(w.told()) != 0 {
		t.Errorf("kept %d, told %q", len(got), w.told())
	}
	w.ok(tx.Commit(t.Context()))
	w.tomorrow()
	if got := w.kept(); len(got) == 0 || got[0] == "old" || !slices.Equal(w.told(), []string{"system 1 1"}) {
		t.Errorf("kept %d, told %q", len(got), w.told())
	}
}
