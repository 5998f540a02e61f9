package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"freehold/e2e/child"
	"freehold/migrations/pgtest"
)

// devRun is a running `freehold dev` in a folder of its own, laid out as README
// assumes: bin/ and .freehold/ side by side.
type devRun struct {
	dir, url string
	proc     *child.Process
}

func startDev(t *testing.T, dir string, args ...string) devRun {
	t.Helper()
	listen, admin := child.FreeAddr(), child.FreeAddr()
	d := devRun{dir: dir, url: "http://" + listen}
	d.proc = child.Start(t, child.Config{
		Path: filepath.Join(dir, "bin", "freehold"), Dir: dir, Env: chosenPostgres(),
		Args: append([]string{"dev", "--listen", listen, "--admin-listen", admin}, args...),
	})
	d.proc.WaitReady(t, nil, d.url+"/readyz", 3*time.Minute)
	return d
}

// sh runs a script in the folder, as a second terminal does.
func (d devRun) sh(t *testing.T, script string) child.Result {
	t.Helper()
	return child.Run(t, child.Config{Path: "/bin/sh", Args: []string{"-c", script}, Dir: d.dir, Env: chosenPostgres()}, 3*time.Minute)
}

// chosenPostgres lets the tester's choice of a Postgres through to a child.
func chosenPostgres() []string {
	if dir := os.Getenv("FREEHOLD_PG_BIN"); dir != "" {
		return []string{"FREEHOLD_PG_BIN=" + dir}
	}
	return nil
}

const sourced = ". .freehold/dev.env; export PATH=\"$PWD/bin:$PATH\"\n"

// checkout lays out a folder with the binary in bin/. Postgres reaches it also
// when the tests run as root and it doesn't.
func checkout(t *testing.T) string {
	t.Helper()
	dir := pgtest.TempDir(t)
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(child.Freehold(t), filepath.Join(dir, "bin", "freehold")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What an operator does in README's five minutes: one of many tenants breaks, status
// names it, the fix is found and holds. Then one schema change over all of them.
func TestDevFiveMinutes(t *testing.T) {
	t.Parallel()
	tenants := 8 // that README names must be among them
	if pgtest.Long() {
		tenants = 200
	}
	d := startDev(t, checkout(t), "--tenants", strconv.Itoa(tenants))
	got := d.sh(t, readme(t, "five-minutes"))
	if got.Code != 0 {
		t.Fatalf("README's block exits %d:\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	before, rest, found := strings.Cut(got.Stdout, "GRANT\n")
	broken, after, again := strings.Cut(rest, "REVOKE\n")
	if !found || !again {
		t.Fatalf("README's block prints:\n%s%s", got.Stdout, got.Stderr)
	}
	for text, want := range map[string][]string{
		before: {fmt.Sprintf("%[1]d tenants (%[1]d active)", tenants), "nothing needs you"},
		broken: {"BAD", "tenant-0007", "→ freehold ", "exit status 1"},
		after:  {"ok", "nothing needs you"},
	} {
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("not printed: %q in\n%s", w, text)
			}
		}
	}
	schemaChange(t, d, tenants)
}

// tenantFiveMinutes does what README's tenant developer does.
func tenantFiveMinutes(t *testing.T, d devRun) {
	t.Helper()
	got := d.sh(t, "set -e\n"+readme(t, "tenant-five-minutes"))
	if got.Code != 0 {
		t.Fatalf("README's block exits %d:\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	const mail = "ann@example.com"
	plain, rest, _ := strings.Cut(got.Stdout, "data: ")
	stream, log, found := strings.Cut(rest, "data: [DONE]")
	log, refused, again := strings.Cut(log, `"not_found"`)
	if !found || !again || !strings.Contains(plain, mail) || !strings.Contains(stream, mail) ||
		strings.Contains(log, mail) || !strings.Contains(log, "[EMAIL_1_") {
		t.Errorf("README's block prints:\n%s%s", got.Stdout, got.Stderr)
	}
	for _, want := range []string{`"insufficient_quota"`, `"total_tokens"`, "ok"} {
		if !strings.Contains(refused, want) {
			t.Errorf("README's block doesn't print %q:\n%s%s", want, got.Stdout, got.Stderr)
		}
	}
}

// fineTune does what README does with a model of the tenant's own.
func fineTune(t *testing.T, d devRun) {
	t.Helper()
	began := time.Now()
	got := d.sh(t, "set -e\n"+readme(t, "fine-tune"))
	if got.Code != 0 {
		t.Fatalf("README's block exits %d:\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	if took := time.Since(began); took > 2*time.Minute {
		t.Errorf("README's block takes %s", took)
	}
	before, after, found := strings.Cut(got.Stdout, "ft:freehold-answer-1:acme:bikes:")
	after, stranger, again := strings.Cut(after, `"model_not_found"`)
	const answer = "Call the number on the frame"
	if !found || !again || strings.Contains(before, answer) || stranger == "" {
		t.Errorf("README's block prints:\n%s%s", got.Stdout, got.Stderr)
	}
	for _, want := range []string{answer, "I don't know", "right, of those answered"} {
		if !strings.Contains(after, want) {
			t.Errorf("README's block doesn't print %q:\n%s%s", want, got.Stdout, got.Stderr)
		}
	}
}

// What a newcomer does: README's first request by copy and paste, Ctrl-C, and
// again with the same keys.
func TestDevFirstRequestAndRestart(t *testing.T) {
	t.Parallel()
	dir := checkout(t)
	d := startDev(t, dir)

	got := d.sh(t, "set -e\n"+readme(t, "first-request"))
	if got.Code != 0 {
		t.Fatalf("README's block exits %d:\n%s%s", got.Code, got.Stdout, got.Stderr)
	}
	for _, want := range []string{"Gift cards never expire.", "refused: ", "1 live node"} {
		if !strings.Contains(got.Stdout, want) {
			t.Errorf("README's block doesn't print %q:\n%s", want, got.Stdout)
		}
	}
	counts := d.sh(t, sourced+`freehold tenant psql acme -Atc 'select count(*) from freehold.predictions'
freehold tenant psql globex -Atc 'select count(*) from freehold.predictions'`)
	if counts.Stdout != "1\n0\n" {
		t.Errorf("predictions of acme and globex: %q %s", counts.Stdout, counts.Stderr)
	}
	tenantFiveMinutes(t, d)
	fineTune(t, d)
	goBack(t, d)
	write := d.sh(t, sourced+`freehold tenant psql acme -c 'delete from freehold.predictions'`)
	if write.Code == 0 || !strings.Contains(write.Stderr, "read-only") {
		t.Errorf("psql without --write deletes: %d %s%s", write.Code, write.Stdout, write.Stderr)
	}
	// A folder of no server at all, with an old psql.
	old := d.sh(t, sourced+`mkdir old && printf '#!/bin/sh\necho "psql (PostgreSQL) 14.2"\n' > old/psql && chmod +x old/psql
FREEHOLD_PG_BIN=$PWD/old freehold tenant psql acme`)
	if old.Code != 0 || old.Stdout != "psql (PostgreSQL) 14.2\n" || !strings.Contains(old.Stderr, "psql 14.2 is older than the server") {
		t.Errorf("an old psql: %d %s%s", old.Code, old.Stdout, old.Stderr)
	}
	before := d.sh(t, sourced+"echo $ACME_API_KEY $GLOBEX_API_KEY; freehold tenant list")

	if postgresOf(t, dir) == "" {
		t.Error("the running Postgres isn't found, so one left behind wouldn't be")
	}

	began := time.Now()
	d.proc.SignalGroup(t, syscall.SIGINT)
	if code := d.proc.Wait(t, 10*time.Second); code != 0 {
		t.Errorf("Ctrl-C: exit status %d", code)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("Ctrl-C took %v, want 5 s at most", took)
	}
	if left := postgresOf(t, dir); left != "" {
		t.Errorf("left running: %s", left)
	}

	d = startDev(t, dir)
	after := d.sh(t, sourced+"echo $ACME_API_KEY $GLOBEX_API_KEY; freehold tenant list")
	if before.Stdout != after.Stdout || !strings.Contains(after.Stdout, "globex") {
		t.Errorf("tenants and keys changed with a restart:\n%s\n%s%s", redact(before.Stdout), redact(after.Stdout), after.Stderr)
	}
	models := d.sh(t, sourced+`curl -s -o /dev/null -w '%{http_code}' $FREEHOLD_URL/v1/models -H "Authorization: Bearer $ACME_API_KEY"`)
	if models.Stdout != "200" {
		t.Errorf("acme's key after a restart: %s", models.Stdout)
	}

	// Killed with -9, it leaves nothing running either.
	d.proc.Kill()
	d.proc.Wait(t, 5*time.Second)
	deadline := time.Now().Add(5 * time.Second)
	for postgresOf(t, dir) != "" {
		if time.Now().After(deadline) {
			t.Fatalf("left running after kill -9: %s", postgresOf(t, dir))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// redact keeps keys out of a test's log.
func redact(s string) string {
	_, rest, _ := strings.Cut(s, "\n")
	return rest
}

// postgresOf lists Postgres processes whose command line names a folder below dir.
func postgresOf(t *testing.T, dir string) string {
	t.Helper()
	var left []string
	for _, line := range processes(t) {
		if strings.Contains(line, dir) && strings.Contains(line, "postgres") {
			left = append(left, line)
		}
	}
	return strings.Join(left, "\n")
}

// processes lists the command lines on this machine: from /proc, which needs no
// program, or from ps where there is none.
func processes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil { // else it has just ended
			lines = append(lines, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	if lines != nil {
		return lines
	}
	out, err := exec.Command("ps", "-eo", "args").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(out), "\n")
}

// Bad configuration names every mistake at once and exits with 2.
func TestBadConfigurationIsReportedWhole(t *testing.T) {
	t.Parallel()
	got := child.Run(t, child.Config{
		Path: child.Freehold(t), Args: []string{"serve"},
		Env: []string{"FREEHOLD_LISTEN=nonsense", "FREEHOLD_LOG_LEVEL=loud", "FREEHOLD_TLS_CERT=only.crt"},
	}, 10*time.Second)
	if got.Code != 2 {
		t.Errorf("exit status %d, want 2", got.Code)
	}
	for _, name := range []string{
		"FREEHOLD_CATALOG_URL", "FREEHOLD_MASTER_KEY_FILE", "FREEHOLD_S3_BUCKET", "FREEHOLD_ADMIN_TOKEN_FILE",
		"FREEHOLD_LISTEN", "FREEHOLD_LOG_LEVEL", "FREEHOLD_TLS_KEY",
	} {
		if !strings.Contains(got.Stderr, name) {
			t.Errorf("the report doesn't name %s:\n%s", name, got.Stderr)
		}
	}
}
