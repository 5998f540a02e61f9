package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freehold/catalog"
)

func TestTokenCommands(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	var made struct {
		Operator catalog.Operator
		Token    string
	}
	b.into(&made, "token", "create", "ann", "--role", "owner", "--expires-in", "1h")
	if made.Operator.Role != "owner" || made.Operator.ExpiresAt == nil || !strings.HasPrefix(made.Token, "fho_"+made.Operator.ID) {
		t.Errorf("made %+v", made.Operator)
	}
	first := made.Token
	out, _ := b.run("", 0, "token", "create", "bob")
	if !strings.Contains(out, "viewer") || !strings.Contains(out, "shown once") {
		t.Errorf("bob: %s", out)
	}
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"token create ann", 1, "operator ann: already exists"},
		{"token create Ann", 2, "invalid: name: want"},
		{"token create eve --role king", 2, "invalid: role: want"},
		{"token create eve --expires-in -1h", 2, "usage: invalid argument"},
		{"token rotate nobody", 1, "operator nobody: not found"},
		{"token revoke nobody", 1, "operator nobody: not found"},
	} {
		if _, told := b.run("", c.status, strings.Fields(c.args)...); !strings.Contains(told, c.want) {
			t.Errorf("%s: %s", c.args, told)
		}
	}
	b.into(&made, "token", "rotate", "ann")
	if made.Token == first || made.Operator.RotatedAt == nil {
		t.Errorf("rotated %+v", made.Operator)
	}
	b.run("", 0, "token", "revoke", "ann")
	b.run("", 1, "token", "rotate", "ann")
	var list []catalog.Operator
	b.into(&list, "token", "list")
	if len(list) != 2 || list[0].RevokedAt == nil || list[1].RevokedAt != nil {
		t.Errorf("listed %+v", list)
	}

	// All of it is in the audit, and no token is.
	export, _ := b.run("", 0, "audit", "export", "--operator")
	for _, want := range []string{"server.add", "token.create", "token.rotate", "token.revoke"} {
		if !strings.Contains(export, `"action":"`+want+`"`) {
			t.Errorf("%s isn't in the audit", want)
		}
	}
	for _, token := range []string{first, made.Token} {
		if strings.Contains(export, token[20:]) {
			t.Error("a token is in the audit")
		}
	}
}

func TestAuditCommands(t *testing.T) { //nolint:paralleltest // the environment is the process's
	b := setup(t)
	var online, offline catalog.AuditCheck
	b.into(&online, "audit", "verify", "--operator")
	export, _ := b.run("", 0, "audit", "export", "--operator")
	file := filepath.Join(t.TempDir(), "audit.jsonl")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(export)
	// A file needs no catalog.
	t.Setenv("FREEHOLD_CATALOG_URL", "")
	b.into(&offline, "audit", "verify", "--file", file)
	if !online.OK || online.Rows == 0 || online != offline {
		t.Errorf("online %+v, in the file %+v", online, offline)
	}
	if out, _ := b.run(export, 0, "audit", "verify", "--file", "-"); !strings.Contains(out, online.Head) {
		t.Errorf("the head isn't said: %s", out)
	}
	write(strings.Replace(export, "server.add", "server.odd", 1))
	out, told := b.run("", 1, "audit", "verify", "--file", file)
	if !strings.Contains(out, "bad row") || !strings.Contains(told, "tampered") {
		t.Errorf("%s%s", out, told)
	}
	b.run("", 2, "audit", "verify")
	b.run("", 2, "audit", "export")
	b.run("", 2, "audit", "verify", "--operator", "--file", file)
	b.run("", 1, "audit", "verify", "--file", file+".none")
}
