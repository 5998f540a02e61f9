package main

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"freehold/catalog"
	"freehold/tenantdb/fleet"
	"freehold/tenantdb/fleet/dump"
)

// moveBackup sets the whole of a tenant's backup, sealed, with the sums of all its
// tables, in the object store, beside a bare pg_dump of the same database into a local
// file. Both in the custom format; pg_dump packs by itself.
func moveBackup(ctx context.Context, b *bench) error {
	defer b.fewRounds()()
	f, err := openFiling(ctx, b)
	if err != nil {
		return err
	}
	defer f.close()
	var sizes []float64
	ours := f.timed("sealed backup", func(ctx context.Context, round int) error {
		op, err := f.fleet.Backup(ctx, f.who.ID, fleet.BackupOptions{Actor: "bench"})
		if err == nil && op.State != catalog.OperationDone {
			err = fmt.Errorf("the backup is %s", op.State)
		}
		b.progress("  a backup:%s", stepTimes(op))
		return err
	})
	bare := f.timed("pg_dump -Fc", func(ctx context.Context, round int) error {
		file := f.file(fmt.Sprintf("bare-%d", round))
		err := f.dumpBare(ctx, file)
		sizes = append(sizes, float64(fileBytes(file))/(1<<20))
		return err
	})
	if err := b.play(ctx, "backup", ours, bare); err != nil {
		return err
	}
	made, err := f.cat.TenantBackup(ctx, f.who.ID, catalog.BackupLatest)
	if err != nil {
		return err
	}
	return b.emit("backup_vs_pg_dump", "ratio", atMost(1.3), ratios(ours.rounds, bare.rounds), fmt.Sprintf(
		"%s s for %s MB, %s s for %s MB", figure(median(ours.rounds)), figure(float64(made.Bytes)/(1<<20)),
		figure(median(bare.rounds)), figure(median(sizes))))
}

// moveRestore sets a whole restore as a new tenant beside a bare pg_restore, of the
// same rows, into a new database. The subject is all of fleet.RestoreAs: placement and
// registration, the backup read once from end to end before anything is made, role,
// database, the load, every table's rows and hash compared, what isn't the new tenant's
// own left out, privileges, proof of isolation, and its serving.
func moveRestore(ctx context.Context, b *bench) error {
	defer b.fewRounds()()
	f, err := openFiling(ctx, b)
	if err != nil {
		return err
	}
	defer f.close()
	if _, err := f.fleet.Backup(ctx, f.who.ID, fleet.BackupOptions{Actor: "bench"}); err != nil {
		return err
	}
	file := f.file("bare")
	if err := f.dumpBare(ctx, file); err != nil {
		return err
	}
	ours := f.timed("restore as a tenant", func(ctx context.Context, round int) error {
		made, _, err := f.fleet.RestoreAs(ctx, f.who.ID, catalog.TenantSpec{Slug: fmt.Sprintf("restored-%d", round), Actor: "bench"},
			fleet.TenantRestore{Backup: catalog.BackupLatest, Actor: "bench"})
		if err != nil {
			return err
		}
		return f.tellSteps(ctx, b, made.Slug)
	})
	bare := f.timed("create database + pg_restore", func(ctx context.Context, round int) error {
		return f.restoreBare(ctx, fmt.Sprintf("bare_%d", round), file)
	})
	if err := b.play(ctx, "restore", ours, bare); err != nil {
		return err
	}
	return b.emit("restore_vs_pg_restore", "ratio", atMost(1.3), ratios(ours.rounds, bare.rounds), fmt.Sprintf(
		"%s s, %s s", figure(median(ours.rounds)), figure(median(bare.rounds))))
}

// filing is one server with a tenant that is copied, and Postgres's own programs.
type filing struct {
	*docks
	who   customer
	tools dump.Tools
	env   []string // of the programs
}

func openFiling(ctx context.Context, b *bench) (_ *filing, err error) {
	f := &filing{}
	if f.docks, err = openDocks(ctx, b, 1, 0); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	server, err := f.cat.Server(ctx, quayName(0))
	if err != nil {
		return nil, err
	}
	if f.tools, err = dump.Find(server.Version / 10000); err != nil {
		return nil, err
	}
	at, err := url.Parse(f.quays[0].server.URL("postgres"))
	if err != nil {
		return nil, err
	}
	password, _ := at.User.Password()
	f.env = append(os.Environ(), "PGHOST="+at.Hostname(), "PGPORT="+at.Port(), "PGUSER="+at.User.Username(), "PGPASSWORD="+password)
	f.who, err = f.dockTenant(ctx, b, "filed", float64(b.opt.mb)/filedPart)
	return f, err
}

// tellSteps tells people how long each step of a new tenant took.
func (f *filing) tellSteps(ctx context.Context, b *bench, slug string) error {
	list, err := f.cat.Operations(ctx, catalog.OperationFilter{Kind: catalog.KindOnboard, Tenant: slug})
	for _, o := range list {
		b.progress("  a restore:%s", stepTimes(o))
	}
	return err
}

func (f *filing) file(name string) string { return filepath.Join(f.folder(), name+".dump") }

// timed is a side that does one thing in a turn, and returns how many seconds it took.
func (f *filing) timed(name string, do func(ctx context.Context, round int) error) *side {
	return &side{name: name, turn: func(ctx context.Context, round int, _ time.Duration) (float64, error) {
		if err := f.calm(ctx); err != nil {
			return 0, err
		}
		began := time.Now()
		err := do(ctx, round)
		return time.Since(began).Seconds(), err
	}}
}

func (f *filing) dumpBare(ctx context.Context, to string) error {
	return f.program(ctx, f.tools.Dump, "--format=custom", "--file="+to, f.who.Database)
}

func (f *filing) restoreBare(ctx context.Context, name, from string) error {
	for _, sql := range []string{
		"create database " + ident(name) + " template template0",
		// Or no tenant of this server would pass for isolated.
		"revoke connect on database " + ident(name) + " from public",
	} {
		if _, err := f.quays[0].super.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return f.program(ctx, f.tools.Restore, "--exit-on-error", "--dbname="+name, from)
}

func (f *filing) program(ctx context.Context, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = f.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(path), err, strings.TrimSpace(string(out)))
	}
	return nil
}
