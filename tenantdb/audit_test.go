package tenantdb_test

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb"
)

// However many seal at once, and while rows are still being added, each row is sealed
// once and the chain fits.
func TestSeal_manyAtOnce(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	const rows, sealers = 120, 4
	var writing, sealing sync.WaitGroup
	writer := tenantdb.On(a.connect(a.at.TenantURL), 10)
	writing.Go(func() {
		for i := range rows {
			if err := writer.AddAuditEvent(t.Context(), "system", "event", fmt.Sprint(i), nil); err != nil {
				t.Error(err)
			}
		}
	})
	stop := make(chan struct{})
	var mu sync.Mutex // guards total
	total := 0
	for range sealers {
		db := tenantdb.On(a.connect(a.at.TenantURL), 10)
		sealing.Go(func() {
			for {
				_, n, err := db.Seal(t.Context(), a.id, a.sign)
				refused, behind := errors.AsType[*tenantdb.StateError](err)
				if err != nil && (!behind || refused.State != "FH002") {
					t.Error(err)
					return
				}
				mu.Lock()
				total += n
				mu.Unlock()
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	sealing.Wait()
	head, n, err := a.db.Seal(t.Context(), a.id, a.sign)
	a.ok(err)
	a.head = head
	if total += n; total != rows {
		t.Errorf("%d rows sealed of %d", total, rows)
	}
	if got := a.verified(false); !got.OK || got.Rows != rows || got.Unsealed != 0 {
		t.Errorf("%+v", got)
	}
}

// Rows beyond a seal's bound wait for the next one; pages of rows and seals follow
// each other, in both directions of which is longer.
func TestSeal_many(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	a.exec(`insert into freehold.audit_log (id, at, actor, action)
		select freehold.uuid7_floor(now() + i * interval '1 ms'), 'infinity', 'system', 'x' from generate_series(1, $1::integer) i`,
		tenantdb.SealRows+5)
	a.seal(tenantdb.SealRows)
	if got := a.verified(false); !got.OK || got.Unsealed != 5 {
		t.Errorf("%+v", got)
	}
	a.seal(5)
	for i := range 3 {
		a.event("system", "y", map[string]any{"i": i})
		a.seal(1)
	}
	if got := a.verified(false); !got.OK || got.Rows != tenantdb.SealRows+8 || got.N != 5 {
		t.Errorf("%+v", got)
	}
	if got := a.file(a.exported()); !got.OK || got.Rows != tenantdb.SealRows+8 || got.Trusted {
		t.Errorf("exported: %+v", got)
	}
}

func TestSeal_fencedAndRefused(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	a.event("system", "x", nil)
	mine := errors.New("no key")
	_, _, err := a.db.Seal(t.Context(), a.id, func([]byte) ([]byte, int64, error) { return nil, 0, mine })
	if !errors.Is(err, mine) {
		t.Errorf("a key that isn't there: %v", err)
	}
	a.fence(11)
	if _, _, err := a.db.Seal(t.Context(), a.id, a.sign); !errors.Is(err, tenantdb.ErrFenced) {
		t.Errorf("fenced: %v", err)
	}
	a.db = tenantdb.On(a.conn, 11)
	a.seal(1)
	a.seal(0)
	if a.head.N != 1 || len(a.head.Head) != 32 || time.Since(a.head.SealedAt) > time.Minute {
		t.Errorf("the head that was there: %+v", a.head)
	}
}

// As the fleet reads and seals: the owner, without prepared statements.
func TestAudit_asItsOwner(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	cfg, err := pgx.ParseConfig(a.at.OwnerURL)
	a.ok(err)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	a.ok(err)
	defer func() { a.ok(conn.Close(t.Context())) }()
	a.predicted(`"x"`)
	a.db = tenantdb.On(conn, 10)
	a.goOn()
	if got := a.verified(true); !got.OK || got.Rows != 6 || got.Payloads.Same != 1 {
		t.Errorf("%+v", got)
	}
	if got := a.file(a.exported(), a.public()); !got.OK {
		t.Errorf("exported: %+v", got)
	}
	list, err := a.db.AuditRows(t.Context(), "", uuid.Nil, 10)
	if err != nil || len(list) != 6 {
		t.Error(list, err)
	}
}

func TestOperatorActs_once(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	at := time.Now()
	acts := []catalog.OperatorAct{
		{Seq: 3, At: at, Actor: "ann", Action: "key.create", Detail: []byte(`{"id": "k"}`)},
		{Seq: 7, At: at, Actor: "ann", Action: "key.revoke", Detail: []byte(`{"id": "` + strings.Repeat("k", 1<<17) + `"}`)},
	}
	for range 2 {
		a.ok(tenantdb.On(a.owner, 10).AddOperatorActs(t.Context(), acts))
	}
	a.ok(tenantdb.On(a.owner, 10).AddOperatorActs(t.Context(), append(acts, catalog.OperatorAct{Seq: 8, At: at, Actor: "key:k1", Action: "x", Detail: []byte(`{}`)})))
	seq, err := a.db.LastOperatorSeq(t.Context())
	a.ok(err)
	list, err := a.db.AuditRows(t.Context(), "", uuid.Nil, 10)
	a.ok(err)
	if seq != 8 || len(list) != 3 {
		t.Fatalf("last is %d, %d rows", seq, len(list))
	}
	slices.SortFunc(list, func(x, y tenantdb.AuditRow) int { return int(*x.OperatorSeq - *y.OperatorSeq) })
	for i, want := range []string{`{"id": "k"}`, `{"cut": true}`, `{}`} {
		if r := list[i]; string(r.Detail) != want || r.ID.Version() != 7 || r.Actor != []string{"operator:ann", "operator:ann", "key:k1"}[i] || r.At.Sub(at).Abs() > time.Millisecond {
			t.Errorf("row %d: %+v", i, r)
		}
	}
}

func TestAuditRows_paged(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	prediction := a.told()
	read := func(action string) (list []tenantdb.AuditRow) {
		for after := uuid.Nil; ; {
			page, err := a.db.AuditRows(t.Context(), action, after, 2)
			a.ok(err)
			if len(page) == 0 {
				return list
			}
			list, after = append(list, page...), page[len(page)-1].ID
		}
	}
	all := read("")
	if len(all) != 6 || !slices.IsSortedFunc(all, func(x, y tenantdb.AuditRow) int { return strings.Compare(y.ID.String(), x.ID.String()) }) {
		t.Errorf("%d rows, or not the newest first", len(all))
	}
	if list := read("prediction"); len(list) != 1 || list[0].ID != prediction || *list[0].Seal != 1 || *list[0].Pos != 1 || list[0].Subject != "pred_"+prediction.String() {
		t.Errorf("predictions: %+v", list)
	}
	if list := read("tenant.suspend"); len(list) != 1 || list[0].Actor != "operator:bob" {
		t.Errorf("suspensions: %+v", list)
	}
	for _, bad := range []map[string]any{{"f": func() {}}, {"s": strings.Repeat("x", 1<<17)}} {
		if err := a.db.AddAuditEvent(t.Context(), "system", "x", "", bad); !errors.Is(err, tenantdb.ErrInvalid) {
			t.Errorf("bad detail: %v", err)
		}
	}
}

// What is done to an export is found without any database.
func TestAuditFile_tampering(t *testing.T) {
	t.Parallel()
	a := setupAudit(t)
	a.told()
	a.event("system", "loose", nil)
	file := a.exported()
	if got := a.file(file, a.public()); !got.OK || got.Unsealed != 1 || got.OldestUnsealed == nil {
		t.Fatalf("untouched: %+v", got)
	}
	lines := strings.SplitAfter(file, "\n") // header, seal, 3 rows, seal, 2 rows, seal, row, loose, ""
	if len(lines) != 12 {
		t.Fatalf("%d lines:\n%s", len(lines), file)
	}
	join := func(list ...string) string { return strings.Join(list, "") }
	without := func(i ...int) string {
		var b strings.Builder
		for k, l := range lines {
			if !slices.Contains(i, k) {
				b.WriteString(l)
			}
		}
		return b.String()
	}
	thief := newSigner(9)
	for name, text := range map[string]string{
		"empty":               "",
		"header alone":        lines[0],
		"no header":           without(0),
		"header's number":     strings.Replace(file, `"seals":3`, `"seals":2`, 1),
		"header's tenant":     strings.Replace(file, a.bench.id.String(), catalog.NewTenantID().String(), 1),
		"header's time":       strings.Replace(file, `"exported_at":"2`, `"exported_at":"3`, 1),
		"header's columns":    strings.Replace(file, `"actor"`, `"action"`, 1),
		"key replaced":        strings.Replace(file, fmt.Sprintf("%x", a.public()), fmt.Sprintf("%x", thief.public()), 1),
		"last seal cut off":   without(8, 9),
		"row's actor":         strings.Replace(file, `"operator:ann"`, `"operator:eve"`, 1),
		"row's time":          strings.Replace(file, `",17`, `",18`, 1),
		"row's detail":        strings.Replace(file, `pii_mode`, `pii_Mode`, 1),
		"row with a blank":    strings.Replace(file, `"operator:ann",`, `"operator:ann", `, 1),
		"row, escaped":        strings.Replace(file, `"operator:ann"`, `"operator:\u0061nn"`, 1),
		"row removed":         without(3),
		"last row removed":    without(4),
		"row twice":           join(join(lines[:4]...), lines[3], join(lines[4:]...)),
		"rows swapped":        join(join(lines[:2]...), lines[3], lines[2], join(lines[4:]...)),
		"rows before a seal":  join(lines[0], lines[2], lines[1], join(lines[3:]...)),
		"seal removed":        without(5, 6, 7),
		"seal twice":          join(join(lines[:5]...), lines[1], join(lines[5:]...)),
		"seal's name twice":   strings.Replace(file, `{"seal":2,`, `{"seal":1,"seal":2,`, 1),
		"seal's time":         strings.Replace(lines[5], `"sealed_at":"2`, `"sealed_at":"3`, 1),
		"sealed row as loose": strings.Replace(file, `{"pos":1,"row":`, `{"unsealed":`, 1),
		"loose row as sealed": strings.Replace(file, `{"unsealed":`, `{"pos":2,"row":`, 1),
		"cut":                 file[:len(file)-1],
		"empty line":          file + "\n",
		"another line":        file + "{}\n",
		"rows behind loose":   file + lines[9],
		"seal behind loose":   file + lines[8],
		"place with a plus":   strings.Replace(file, `{"pos":2,`, `{"pos":+2,`, 1),
		"place with a nought": strings.Replace(file, `{"pos":2,`, `{"pos":02,`, 1),
	} {
		if got := a.file(text, a.public()); text == file || got.OK || got.Why == "" || strings.Contains(got.Why, "eve") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := a.file(file, thief.public()); got.OK {
		t.Errorf("another's key is trusted: %+v", got)
	}
	if got := a.file(file, thief.public(), a.public()); !got.OK || !got.Trusted {
		t.Errorf("both keys are trusted: %+v", got)
	}
}

// golden is an export as it was written once: it must verify for good.
const golden = "testdata/audit.jsonl"

func FuzzTenantAuditFile(f *testing.F) {
	text, err := os.ReadFile(golden)
	if err != nil {
		f.Fatal(err)
	}
	file, trusted := string(text), []ed25519.PublicKey{newSigner(7).public()}
	if got, err := tenantdb.VerifyAuditFile(strings.NewReader(file), trusted); err != nil || !got.OK || got.Rows != 6 || got.Unsealed != 1 {
		f.Fatalf("%+v: %v", got, err)
	}
	sealed, _, _ := strings.Cut(file, `{"unsealed":`)
	f.Add(file)
	f.Add("")
	f.Add("{}\n")
	f.Add(sealed)
	f.Add(file[:len(file)/2])
	f.Add(strings.Replace(file, "ann", "bob", 1))
	f.Fuzz(func(t *testing.T, text string) {
		got, err := tenantdb.VerifyAuditFile(strings.NewReader(text), nil)
		if err != nil || got.OK != (got.Why == "") {
			t.Fatalf("%+v: %v", got, err)
		}
		// Whoever has no key changes nothing but what isn't sealed, and keys that signed
		// nothing.
		got, err = tenantdb.VerifyAuditFile(strings.NewReader(text), trusted)
		_, lines, _ := strings.Cut(text, "\n")
		_, want, _ := strings.Cut(sealed, "\n")
		if err != nil || got.OK && !strings.HasPrefix(lines, want) {
			t.Fatalf("%q passes: %v", text, err)
		}
	})
}
