package catalog_test

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"freehold/catalog"
)

// acts has operators do things: 6 rows.
func (b *bench) acts() catalog.Tenant {
	b.Helper()
	acme := b.tenant("acme")
	for i, detail := range []map[string]any{
		nil, {"slug": "acme"}, {"key": "a<b>&\u2028\"é", "n": 1.50, "list": []any{1, nil, true}}, {"big": 12345678901234567},
	} {
		b.ok(b.cat.AppendAudit(b.Context(), "ann", fmt.Sprintf("act.%d", i), acme.ID, detail))
	}
	b.ok(b.cat.AppendAudit(b.Context(), "bob@host", "act.4", catalog.TenantID{}, nil))
	b.ok(b.cat.AppendAudit(b.Context(), "bob@host", "act.1", catalog.TenantID{}, nil))
	return acme
}

func (b *bench) exported() string {
	b.Helper()
	var file bytes.Buffer
	n, err := b.cat.ExportAudit(b.Context(), &file)
	b.ok(err)
	if lines := strings.Count(file.String(), "\n"); int64(lines) != n {
		b.Errorf("%d rows in %d lines", n, lines)
	}
	return file.String()
}

// fits checks that the chain and its export are whole.
func (b *bench) fits(rows int64) catalog.AuditCheck {
	b.Helper()
	online, err := b.cat.VerifyAudit(b.Context())
	b.ok(err)
	offline, err := catalog.VerifyAuditFile(strings.NewReader(b.exported()))
	b.ok(err)
	if !online.OK || online != offline || online.Rows != rows || len(online.Head) != 64 {
		b.Errorf("verified %+v, its export %+v, want %d rows that fit", online, offline, rows)
	}
	return online
}

func TestAudit_readBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	empty := b.fits(0)
	acme := b.acts()
	if check := b.fits(6); check.Head == empty.Head {
		t.Error("the head is still an empty chain's")
	}
	seqs := func(f catalog.AuditFilter) (list []int64) {
		rows, err := b.cat.AuditRows(t.Context(), f)
		b.ok(err)
		for _, r := range rows {
			list = append(list, r.Seq)
		}
		return list
	}
	for _, tc := range []struct {
		filter catalog.AuditFilter
		want   []int64
	}{
		{catalog.AuditFilter{}, []int64{6, 5, 4, 3, 2, 1}},
		{catalog.AuditFilter{Limit: 2}, []int64{6, 5}},
		{catalog.AuditFilter{Limit: 2, After: 5}, []int64{4, 3}},
		{catalog.AuditFilter{Oldest: true, Limit: 2, After: 5}, []int64{6}},
		{catalog.AuditFilter{Oldest: true, Limit: 2}, []int64{1, 2}},
		{catalog.AuditFilter{Tenant: "acme", After: 4}, []int64{3, 2, 1}},
		{catalog.AuditFilter{Tenant: "globex"}, nil},
		{catalog.AuditFilter{Actor: "bob@host"}, []int64{6, 5}},
		{catalog.AuditFilter{Action: "act.1", Tenant: "acme", Actor: "ann"}, []int64{2}},
	} {
		if got := seqs(tc.filter); !slices.Equal(got, tc.want) {
			t.Errorf("%+v: rows %v, want %v", tc.filter, got, tc.want)
		}
	}
	rows, err := b.cat.AuditRows(t.Context(), catalog.AuditFilter{Oldest: true, Limit: 2})
	b.ok(err)
	if r := rows[1]; *r.Tenant != acme.ID.String() || *r.Slug != "acme" || r.Actor != "ann" || string(r.Detail) != `{"slug": "acme"}` {
		t.Errorf("row %+v %s", r, r.Detail)
	}
}

// Whatever somebody with the database's own rights does to a row is found, online
// and in an export made afterwards; only a chain that was cut short is whole.
func TestAudit_tampering(t *testing.T) {
	t.Parallel()
	rehash := func(seq int) string {
		return fmt.Sprintf(`update operator_audit set hash = sha256(prev || convert_to(jsonb_build_array(seq,
			extract(epoch from at)::text, actor, action, tenant, detail)::text, 'UTF8')) where seq = %d`, seq)
	}
	for name, tc := range map[string]struct {
		sql []string
		bad int64
	}{
		"actor":         {[]string{`update operator_audit set actor = 'eve' where seq = 3`}, 3},
		"action":        {[]string{`update operator_audit set action = 'nothing' where seq = 3`}, 3},
		"time":          {[]string{`update operator_audit set at = at + interval '1 microsecond' where seq = 3`}, 3},
		"tenant":        {[]string{`update operator_audit set tenant = null where seq = 3`}, 3},
		"detail":        {[]string{`update operator_audit set detail = detail || '{"n": 1.6}' where seq = 3`}, 3},
		"hash":          {[]string{`update operator_audit set hash = sha256(hash) where seq = 3`}, 3},
		"and its hash":  {[]string{`update operator_audit set actor = 'eve' where seq = 3`, rehash(3)}, 4},
		"removed":       {[]string{`delete from operator_audit where seq = 3`}, 4},
		"renumbered":    {[]string{`delete from operator_audit where seq = 3`, `update operator_audit set seq = 3 where seq = 4`, rehash(3)}, 3},
		"first removed": {[]string{`delete from operator_audit where seq = 1`}, 2},
		"inserted before": {[]string{`insert into operator_audit (seq, at, actor, action, detail, prev, hash)
			select 0, at, actor, action, detail, prev, hash from operator_audit where seq = 1`}, 0},
		"far before": {[]string{`insert into operator_audit (seq, at, actor, action, detail, prev, hash)
			select -7, at, actor, action, detail, prev, hash from operator_audit where seq = 1`}, -7},
		"inserted behind": {[]string{`insert into operator_audit (seq, at, actor, action, detail, prev, hash)
			select 9, at, actor, action, detail, prev, hash from operator_audit where seq = 6`}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.acts()
			admin := b.admin()
			for _, sql := range tc.sql {
				b.exec(admin, sql)
			}
			online, err := b.cat.VerifyAudit(t.Context())
			b.ok(err)
			offline, err := catalog.VerifyAuditFile(strings.NewReader(b.exported()))
			b.ok(err)
			for where, got := range map[string]catalog.AuditCheck{"online": online, "in the export": offline} {
				if got.OK || got.BadSeq != tc.bad && tc.bad != 0 || got.Why == "" {
					t.Errorf("%s: %+v, want row %d to be bad", where, got, tc.bad)
				}
			}
		})
	}
}

// What is done to an export itself is found without the catalog.
func TestAuditFile_tampering(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.acts()
	file := b.exported()
	lines := strings.SplitAfter(file, "\n")
	join := func(list ...string) string { return strings.Join(list, "") }
	for name, text := range map[string]string{
		"actor":            strings.Replace(file, `"actor":"ann"`, `"actor":"eve"`, 1),
		"actor everywhere": strings.ReplaceAll(file, `ann`, `eve`),
		"action":           strings.Replace(file, `"action":"act.2"`, `"action":"act.7"`, 1),
		"time":             strings.Replace(file, `"at":"2`, `"at":"3`, 1),
		"detail":           strings.Replace(file, `"n":1.5`, `"n":1.6`, 1),
		"twice the name":   strings.Replace(file, `"actor":"ann"`, `"actor":"eve","actor":"ann"`, 1),
		"another case":     strings.Replace(file, `"actor":"ann"`, `"Actor":"eve","actor":"ann"`, 1),
		"removed":          join(append(slices.Clone(lines[:2]), lines[3:]...)...),
		"first removed":    join(lines[1:]...),
		"twice":            join(lines[0], file),
		"swapped":          join(lines[1], lines[0], join(lines[2:]...)),
		"cut":              file[:len(file)-1],
		"empty line":       file + "\n",
		"no rows":          "{}\n",
		"long":             file + strings.Repeat("x", 2<<20),
	} {
		check, err := catalog.VerifyAuditFile(strings.NewReader(text))
		b.ok(err)
		if text == file || check.OK || check.BadSeq == 0 || check.Why == "" {
			t.Errorf("%s: %+v", name, check)
		}
		if len(check.Why) > 200 || strings.Contains(check.Why, "eve") {
			t.Errorf("%s: %s", name, check.Why)
		}
	}
}

// golden is an export as it was written once: it must verify for good.
const golden = "testdata/operator-audit.jsonl"

func FuzzAuditFile(f *testing.F) {
	text, err := os.ReadFile(golden)
	if err != nil {
		f.Fatal(err)
	}
	file := string(text)
	if check, err := catalog.VerifyAuditFile(strings.NewReader(file)); err != nil || !check.OK || check.Rows != 6 {
		f.Fatalf("%+v: %v", check, err)
	}
	f.Add(file)
	f.Add("")
	f.Add("{}\n")
	f.Add(file[:len(file)/2])
	f.Add(strings.Replace(file, "ann", "bob", 1))
	f.Add(`{"seq":1,"at":"2026-01-01T00:00:00Z","actor":"","action":"","tenant":null,"detail":{},"prev":"","hash":"","payload":"[1,\"-1.5\",\"\",\"\",null,{}]"}` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		check, err := catalog.VerifyAuditFile(strings.NewReader(text))
		if err != nil || check.OK != (check.Why == "") || check.OK && check.Rows != int64(strings.Count(text, "\n")) {
			t.Fatalf("%+v: %v", check, err)
		}
		// Whoever finds no collision makes nothing that has the true chain's end but that.
		if check.OK && len(text) >= len(file) && strings.HasSuffix(text, file[len(file)-400:]) && text != file {
			t.Fatalf("%q passes", text)
		}
	})
}
