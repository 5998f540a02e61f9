package fleet

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"freehold/migrations"
	"freehold/migrations/localpg"
)

// tools are Postgres's programs that copy a database.
type tools struct{ dump, restore string }

// findTools wants a pg_dump that isn't older than the server, which would refuse it,
// and the pg_restore beside it, which reads what it writes.
func findTools(major int) (tools, error) {
	dump, err := localpg.FindClient("pg_dump", major)
	if err != nil {
		return tools{}, err
	}
	if dump.Major < major {
		return tools{}, fmt.Errorf("%w: pg_dump %s is older than the server, Postgres %d", localpg.ErrNotFound, dump.Version, major)
	}
	beside := filepath.Join(filepath.Dir(dump.Path), "pg_restore")
	if _, err := os.Stat(beside); err == nil {
		return tools{dump.Path, beside}, nil
	}
	restore, err := localpg.FindClient("pg_restore", dump.Major)
	if err == nil && restore.Major < dump.Major {
		err = fmt.Errorf("%w: pg_restore %s is older than pg_dump %s", localpg.ErrNotFound, restore.Version, dump.Version)
	}
	return tools{dump.Path, restore.Path}, err
}

// scratchPrefix begins the names of databases that are used once and dropped. Behind
// it are the second in which it was made, in eight hexadecimal digits, so that what
// killed processes leave is known by its age, and sixteen by chance.
const scratchPrefix = "freehold_scratch_"

// dropTime bounds the dropping of a database that was used once.
const dropTime = 30 * time.Second

// scratch makes an empty database on a server, which bears this catalog's mark and
// which only the admin can connect to. drop drops it, also when ctx is over.
func (f *Fleet) scratch(ctx context.Context, server string) (name string, drop func(), err error) {
	conn, err := f.admin(ctx, server, maintenance)
	if err != nil {
		return "", nil, err
	}
	defer closeConn(ctx, conn)
	mark, err := f.mark(ctx)
	if err != nil {
		return "", nil, err
	}
	random := make([]byte, 8)
	_, _ = rand.Read(random) // never fails
	name = fmt.Sprintf("%s%08x%s", scratchPrefix, time.Now().Unix(), hex.EncodeToString(random))
	drop = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropTime)
		defer cancel()
		conn, err := f.admin(ctx, server, maintenance)
		if err == nil {
			defer closeConn(ctx, conn)
			err = dropForced(ctx, conn, name)
		}
		if err != nil {
			f.log.WarnContext(ctx, "scratch database not dropped", "server", server, "database", name, "reason", reason(ctx, err))
		}
	}
	for _, sql := range []string{
		"create database " + ident(name) + " template template0 encoding 'UTF8' owner " + ident(migrations.RoleOwner) + " allow_connections false",
		"revoke all on database " + ident(name) + " from public",
		"comment on database " + ident(name) + " is '" + mark + "'",
		"alter database " + ident(name) + " with allow_connections true",
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			drop() // also one whose making nobody heard of
			return "", nil, translate(ctx, err)
		}
	}
	return name, drop, nil
}

// copyInto copies the tenant's database into the clone.
func (d *dryRun) copyInto(ctx context.Context, t tools, clone string) error {
	if !d.options.SchemaOnly {
		if err := d.pipe(ctx, t, clone); err != nil {
			return err
		}
		return d.analyze(ctx, clone)
	}
	if err := d.pipe(ctx, t, clone, "--schema-only"); err != nil {
		return err
	}
	// Which migrations it has are rows.
	return d.pipe(ctx, t, clone, "--data-only", "--table="+d.set.Table, "--table="+migrations.Product(nil).Table)
}

// analyze gives the clone statistics, which dumps don't have: without them statements
// would be planned as nowhere else.
func (d *dryRun) analyze(ctx context.Context, clone string) error {
	cfg, err := d.ownerConfig(ctx, d.tenant.Server, clone)
	if err != nil {
		return err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	_, err = conn.Exec(ctx, "analyze")
	return translate(ctx, err)
}

// pipe runs pg_dump | pg_restore. Either's end ends the other, and so does ctx.
func (d *dryRun) pipe(ctx context.Context, t tools, clone string, options ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	env, cleanup, err := d.clientEnv(ctx)
	defer cleanup()
	if err != nil {
		return err
	}
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	var told, heard firstBytes
	// What a clone has no use for may want rights, or act on other servers.
	dump := child(ctx, env, d.tenant.Database, t.dump, append([]string{
		"--format=custom", "--compress=0", "--no-owner", "--no-comments", "--no-publications", "--no-subscriptions",
		"--no-security-labels", "--no-tablespaces", "--no-password", "--lock-wait-timeout=" + strconv.Itoa(lockWait),
	}, options...)...)
	dump.Stdout, dump.Stderr = in, &told
	restore := child(ctx, env, clone, t.restore, "--format=custom", "--no-owner", "--no-password", "--dbname="+clone)
	restore.Stdin, restore.Stderr = out, &heard
	err = dump.Start()
	if err == nil {
		if err = restore.Start(); err != nil {
			cancel()
			_ = dump.Wait()
		}
	}
	// The children have their ends: only so does one notice that the other is gone.
	_, _ = in.Close(), out.Close()
	if err != nil {
		return fmt.Errorf("%w: %w", errNoClone, err)
	}
	restored := make(chan error, 1)
	go func() { restored <- restore.Wait() }()
	dumped := dump.Wait()
	back := <-restored
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case dumped == nil && (back == nil || !heard.serious()):
		return nil
	}
	// When one fails the other does, for that alone.
	for _, said := range []struct {
		by string
		in *firstBytes
	}{{"pg_dump", &told}, {"pg_restore", &heard}} {
		if why := said.in.why(); why != "" {
			return fmt.Errorf("%w: %s: %s", errNoClone, said.by, why)
		}
	}
	return fmt.Errorf("%w: pg_dump or pg_restore ended with an error that may quote rows, and isn't shown", errNoClone)
}

// lockWait is how long pg_dump waits for a table, in milliseconds.
const lockWait = 5000

func child(ctx context.Context, env []string, database, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "LC_") { // nothing of the operator's own may point elsewhere
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, env...), "PGDATABASE="+database, "LC_ALL=C")
	cmd.WaitDelay = closeTimeout
	return cmd
}

// clientEnv is how Postgres's programs log in at the tenant's server, as the owner of
// its databases. The caller calls cleanup, which is never nil.
func (d *dryRun) clientEnv(ctx context.Context) (env []string, cleanup func(), err error) {
	cleanup = func() {}
	cfg, err := d.cat.ServerAdmin(ctx, d.tenant.Server, d.tenant.Database)
	if err != nil {
		return nil, cleanup, err
	}
	mode, root, cleanup, err := d.sslEnv(ctx, d.tenant.Server)
	if err != nil {
		return nil, cleanup, err
	}
	env = []string{
		"PGHOST=" + cfg.Host, "PGPORT=" + strconv.Itoa(int(cfg.Port)), "PGUSER=" + cfg.User, "PGPASSWORD=" + cfg.Password,
		"PGSSLMODE=" + mode, "PGOPTIONS=-c role=" + migrations.RoleOwner, "PGAPPNAME=freehold-dryrun",
		"PGCONNECT_TIMEOUT=" + strconv.Itoa(int(connectTimeout.Seconds())),
	}
	if root != "" {
		env = append(env, "PGSSLROOTCERT="+root)
	}
	return env, cleanup, nil
}

// firstBytes keeps the beginning of what a child says.
type firstBytes struct{ buf bytes.Buffer }

func (b *firstBytes) Write(p []byte) (int, error) {
	const most = 16 << 10
	b.buf.Write(p[:min(len(p), max(0, most-b.buf.Len()))])
	return len(p), nil
}

var (
	complaint = regexp.MustCompile(`(?m)^pg_(?:dump|restore): (?:error|fatal): (.*)$`)
	// A newer pg_restore sets what an older server doesn't know, to what is the case there.
	harmless = regexp.MustCompile(`unrecognized configuration parameter "[a-z_]+"`)
	// Sentences that name objects, and never quote rows.
	showable = regexp.MustCompile(`ERROR:  ((?:permission denied for |must be |role ".*" does not |.* does not exist$|.* already exists$|` +
		`extension ".*" |could not open extension |canceling statement due to ).*)`)
)

// serious reports whether there is a complaint that tells of a clone which isn't one.
func (b *firstBytes) serious() bool {
	found := complaint.FindAllString(b.buf.String(), -1)
	for _, line := range found {
		if !harmless.MatchString(line) {
			return true
		}
	}
	return len(found) == 0
}

// why is the first complaint that can be shown, or "".
func (b *firstBytes) why() string {
	for _, m := range complaint.FindAllStringSubmatch(b.buf.String(), -1) {
		if shown := showable.FindStringSubmatch(m[1]); shown != nil {
			return shown[1]
		}
	}
	return ""
}
