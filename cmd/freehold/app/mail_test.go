package app_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"freehold/cmd/freehold/app"
)

func TestMailSettings(t *testing.T) {
	t.Parallel()
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const secret = "hunter2"
	password, empty := file("password", secret+"\n"), file("empty", "\n")
	const from = "Freehold <post@example.com>"
	for _, c := range []struct {
		url, passwordFile, from, public string
		want                            string // variables that are named; empty: nothing is wrong
	}{
		{"", "", "", "", ""},
		{"", "/no/such/file", "nobody", "", ""},
		{"smtp://freehold@post.example.com", password, from, "https://ai.example.com", ""},
		{"smtps://freehold@post.example.com:465", password, from, "http://127.0.0.1:8080/", ""},
		{"file:///var/mail", "", "post@example.com", "https://ai.example.com/tenants", ""},
		{"ftp://h", "", "", "", "FREEHOLD_SMTP_URL FREEHOLD_MAIL_FROM"},
		{"smtp://u@h", "", "nobody", "ai.example.com", "FREEHOLD_SMTP_PASSWORD_FILE FREEHOLD_MAIL_FROM FREEHOLD_PUBLIC_URL"},
		{"smtp://h", password, from, "", "FREEHOLD_SMTP_PASSWORD_FILE"},
		{"smtp://u:" + secret + "@h", password, from, "", "FREEHOLD_SMTP_URL"},
		{"smtp://u@h", password + ".none", from, "", "FREEHOLD_SMTP_PASSWORD_FILE"},
		{"smtp://u@h", empty, from, "", "FREEHOLD_SMTP_PASSWORD_FILE"},
		{"", "", "", "ftp://h", "FREEHOLD_PUBLIC_URL"},
		{"", "", "", "https://u:" + secret + "@h", "FREEHOLD_PUBLIC_URL"},
		{"", "", "", "https://h?x=" + secret, "FREEHOLD_PUBLIC_URL"},
	} {
		cfg := app.FromEnv(env("FREEHOLD_SMTP_URL", c.url, "FREEHOLD_SMTP_PASSWORD_FILE", c.passwordFile,
			"FREEHOLD_MAIL_FROM", c.from, "FREEHOLD_PUBLIC_URL", c.public))
		err := cfg.Check(app.NeedMail)
		if (c.want == "") != (err == nil) {
			t.Errorf("%+v: %v", c, err)
			continue
		}
		if err == nil {
			continue
		}
		text := err.Error()
		if !errors.Is(err, app.ErrConfig) || strings.Contains(text, secret) || strings.Count(text, "\nFREEHOLD_") != len(strings.Fields(c.want)) {
			t.Errorf("%+v: %v", c, err)
		}
		for name := range strings.FieldsSeq(c.want) {
			if !strings.Contains(text, name) {
				t.Errorf("%+v: %v, want %s", c, err, name)
			}
		}
	}
}

// Tenants are told the public address, or else the one that this process listens
// at, as they could use it on this machine.
func TestBaseURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ public, listen, cert, want string }{
		{"", "", "", "http://127.0.0.1:8080"},
		{"", "10.0.0.7:443", "cert.pem", "https://10.0.0.7:443"},
		{"", ":8080", "", "http://localhost:8080"},
		{"", "0.0.0.0:8080", "", "http://localhost:8080"},
		{"", "[::]:8080", "", "http://localhost:8080"},
		{"https://ai.example.com", ":8080", "", "https://ai.example.com"},
		{"https://ai.example.com/", "", "", "https://ai.example.com"},
		{"https://ai.example.com/v1/", "", "", "https://ai.example.com"},
	} {
		cfg := app.FromEnv(env("FREEHOLD_PUBLIC_URL", c.public, "FREEHOLD_LISTEN", c.listen, "FREEHOLD_TLS_CERT", c.cert))
		if got := app.BaseURL(cfg); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
