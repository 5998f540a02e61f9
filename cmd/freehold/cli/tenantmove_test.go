package cli_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
	"freehold/migrations/pgtest"
	"freehold/tenantdb/fleet"
)

// begunOperation is one as scripts read it.
type begunOperation struct{ ID, Kind, State string }

// A move shows its plan, is refused before anything changes, and is left to workers
// when that is asked for; what it is about is seen in its operation and its tenant.
func TestTenantMove(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 1, 1) // server far can't be reached
	w.store()
	w.exec(`delete from nodes`) // it would be waited for
	for _, c := range []struct {
		args   string
		status int
		want   string // of stderr
	}{
		{"", 2, "accepts 1 arg"}, {"nobody --to far", 1, "tenant nobody: not found"}, {"real-00 --to nowhere", 1, "server nowhere: not found"},
		{"real-00 --to main", 2, "lives on main already"}, {"real-00 --to far --by magic", 2, "want auto, replication or copy"},
		{"real-00 --to far --grace 0", 2, "want a time"}, {"real-00 --to far --max-pause 10ms", 2, "max pause"},
		{"real-00 --region mars", 1, "far"},
	} {
		if _, said := w.run("", c.status, append([]string{"tenant", "move"}, strings.Fields(c.args)...)...); !strings.Contains(said, c.want) {
			t.Errorf("move %s: %s", c.args, said)
		}
	}
	out, _ := w.run("", 0, "tenant", "move", "real-00", "--to", "far", "--by", "copy", "--dry-run")
	contain(t, out, "real-00 (active)", "main", "far", "copy", "about 1")
	var planned struct {
		Plan      fleet.MovePlan
		Operation *begunOperation
	}
	w.into(&planned, "tenant", "move", "real-00", "--by", "copy", "--dry-run")
	if planned.Plan.To != "far" || planned.Operation != nil {
		t.Errorf("%+v", planned)
	}
	if out, _ := w.run("", 0, "operation", "list", "--tenant", "real-00", "--kind", "move", "-o", "json"); out != "[]\n" {
		t.Errorf("a plan has begun %s", out)
	}

	var op begunOperation
	w.into(&op, "tenant", "move", "real-00", "--to", "far", "--by", "copy", "--detach")
	if op.Kind != catalog.KindMove || op.State != catalog.OperationWaiting || op.ID == "" {
		t.Errorf("%+v", op)
	}
	if _, said := w.run("", 1, "tenant", "move", "real-00", "--to", "far", "--by", "copy"); !strings.Contains(said, op.ID) {
		t.Errorf("a second one: %s", said)
	}
	out, _ = w.run("", 0, "operation", "show", op.ID)
	contain(t, out, "from main to far, by copy")
	out, _ = w.run("", 0, "tenant", "show", "real-00")
	contain(t, out, "move is waiting, 0/", "freehold operation show "+op.ID, "none: freehold tenant backup real-00")
	w.exec(`update operations set state = 'cancelled', ended_at = now() where id = $1`, op.ID)

	// Done here, and the server is away: it goes on living where it was.
	if _, said := w.run("", 1, "tenant", "move", "real-00", "--to", "far", "--by", "copy"); !strings.Contains(said, "lives on main as before") ||
		!strings.Contains(said, "freehold operation cancel ") {
		t.Errorf("without the server: %s", said)
	}
	var shown struct {
		Slug, State, Server string
		Operation           *begunOperation
	}
	w.into(&shown, "tenant", "show", "real-00")
	if shown.State != "active" || shown.Server != "main" || shown.Operation == nil {
		t.Errorf("%+v", shown)
	}
	w.exec(`update operations set state = 'cancelled', ended_at = now() where id = $1`, shown.Operation.ID)
	if n := w.audited("tenant.move"); n != 2 {
		t.Errorf("%d rows in the audit", n)
	}
	if pgtest.Long() {
		w.movesHouse()
	}
}

// movesHouse moves a tenant to a second server, by the command alone.
func (w *town) movesHouse() {
	t := w.t
	t.Helper()
	u, err := url.Parse(pgtest.SecondSuperURL(t))
	w.ok(err)
	password, _ := u.User.Password()
	w.run(password, 0, "server", "add", "second", "--url", "postgres://"+u.User.Username()+"@"+u.Host+"/postgres?sslmode=disable")
	out, _ := w.run("", 0, "tenant", "move", "real-00", "--to", "second", "--by", "copy", "--grace", "2d")
	contain(t, out, "real-00 lives on second; its requests waited for ", "its old database is kept on main until ", "cutover")
	var shown struct {
		Server string
		Kept   []struct {
			Server string
			DropAt *time.Time `json:"drop_at"`
		}
	}
	w.into(&shown, "tenant", "show", "real-00")
	if shown.Server != "second" || len(shown.Kept) != 1 || shown.Kept[0].Server != "main" || shown.Kept[0].DropAt == nil {
		t.Errorf("%+v", shown)
	}
	var back struct {
		Server    string
		PauseMS   *int64 `json:"pause_ms"`
		Operation begunOperation
	}
	w.into(&back, "tenant", "move", "real-00", "--to", "main", "--by", "copy")
	if back.Server != "main" || back.PauseMS == nil || back.Operation.State != catalog.OperationDone {
		t.Errorf("%+v", back)
	}
}

// Backups are made, listed and gone back to, by commands alone.
func TestTenantBackup(t *testing.T) { //nolint:paralleltest // the environment is the process's
	w := setupTown(t, 1, 1)
	w.store()
	w.exec(`delete from nodes`) // it would be waited for
	w.run("", 2, "tenant", "backup", "real-00", "--list", "--prove")
	w.run("", 1, "tenant", "backup", "nobody")
	w.run("", 2, "tenant", "restore", "real-00")
	w.run("", 1, "tenant", "restore", "real-00", "--backup", "latest", "-y")
	w.run("", 2, "tenant", "restore", "real-00", "--backup", "newest", "-y")
	w.run("", 2, "tenant", "restore", "real-00", "--backup", "latest", "--server", "main")
	w.run("", 1, "tenant", "confirm", "real-00")
	w.run("", 1, "tenant", "revert", "real-00", "-y")
	if out, _ := w.run("", 0, "tenant", "backup", "real-00", "--list", "-o", "json"); out != "[]\n" {
		t.Errorf("listed %s", out)
	}
	w.exec(`update tenants set created_at = now() - interval '40 hours'`)
	ages := func() (list []struct {
		Slug   string
		Backup struct {
			Age     int64 `json:"age_seconds"`
			Overdue bool
		}
	}) {
		t.Helper()
		w.into(&list, "tenant", "list", "--backup-older-than", "24h")
		return list
	}
	if list := ages(); len(list) != 1 || list[0].Slug != "real-00" || !list[0].Backup.Overdue || list[0].Backup.Age < 39*3600 {
		t.Errorf("without a backup: %+v", list)
	}
	out, _ := w.run("", 0, "tenant", "list", "--backup-older-than", "24h")
	contain(t, out, "NEWEST BACKUP", "real-00", "none", "40h", "1d", "never")

	var made struct {
		ID        string
		Bytes     int64
		Scheduled bool
	}
	w.into(&made, "tenant", "backup", "real-00")
	if made.ID == "" || made.Bytes == 0 || made.Scheduled {
		t.Errorf("made %+v", made)
	}
	if list := ages(); len(list) != 0 {
		t.Errorf("with a backup: %+v", list)
	}
	out, _ = w.run("", 0, "tenant", "backup", "real-00", "--list")
	contain(t, out, made.ID, "asked for", "never")
	out, _ = w.run("", 0, "tenant", "show", "real-00")
	contain(t, out, made.ID)

	// Whoever doesn't type the slug has changed nothing.
	if _, said := w.run("no\n", 1, "tenant", "restore", "real-00", "--backup", "latest"); !strings.Contains(said, "gone from it") || !strings.Contains(said, "nothing was done") {
		t.Errorf("asked %s", said)
	}
	out, _ = w.run("real-00\n", 0, "tenant", "restore", "real-00", "--backup", "latest")
	contain(t, out, "real-00 is what it was at ", "freehold tenant confirm real-00")
	out, _ = w.run("", 0, "tenant", "show", "real-00")
	contain(t, out, "kept database", "until freehold tenant confirm real-00")
	if pgtest.Long() {
		out, _ = w.run("", 0, "tenant", "revert", "real-00", "-y")
		contain(t, out, "real-00 is what it was before the restore")
		out, _ = w.run("", 0, "tenant", "backup", "real-00", "--prove")
		contain(t, out, "every table is the same")
		out, _ = w.run("", 0, "tenant", "restore", "real-00", "--backup", made.ID, "-y")
		contain(t, out, "real-00 is what it was at ")
		var another struct {
			Tenant struct{ Slug, State string }
			APIKey string `json:"api_key"`
		}
		w.into(&another, "tenant", "restore", "real-00", "--backup", made.ID, "--as", "again", "--server", "main")
		if another.Tenant.Slug != "again" || another.Tenant.State != "active" || !strings.HasPrefix(another.APIKey, "fh_") {
			t.Errorf("made %+v", another)
		}
	}
	out, _ = w.run("", 0, "tenant", "confirm", "real-00")
	contain(t, out, "real-00 stays as it is")
	w.run("", 1, "tenant", "revert", "real-00", "-y")
	for action, want := range map[string]int{"tenant.backup": 1, "tenant.restore": 1, "tenant.confirm": 1} {
		if n := w.audited(action); n < want {
			t.Errorf("%d rows of %s in the audit", n, action)
		}
	}
}

func TestBackupPlan(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	out, _ := b.run("", 0, "backup", "plan", "list")
	contain(t, out, "* (every other)", "1d", "30d")
	type plan struct{ Plan, Every, Keep string }
	var set plan
	b.into(&set, "backup", "plan", "set", "gold", "--every", "6h", "--prove-every", "never")
	if set != (plan{"gold", "6h", "30d"}) {
		t.Errorf("%+v", set)
	}
	b.run("", 0, "backup", "plan", "set", "*", "--keep", "60d")
	var all []plan
	b.into(&all, "backup", "plan", "list")
	if len(all) != 2 || all[0] != (plan{"*", "1d", "60d"}) || all[1] != set {
		t.Errorf("%+v", all)
	}
	for _, wrong := range []string{"", "gold", "gold --every soon", "gold --keep never", "gold --every 1m"} {
		b.run("", 2, append([]string{"backup", "plan", "set"}, strings.Fields(wrong)...)...)
	}
	b.run("", 2, "backup", "plan", "remove", "*")
	b.run("", 0, "backup", "plan", "remove", "gold")
	out, _ = b.run("", 0, "backup", "plan", "list", "-o", "json")
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 1 {
		t.Errorf("%s %v", out, err)
	}
}
