package fleet

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"freehold/migrations"
	"freehold/tenantdb/fleet/dump"
)

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
	if err := f.newDatabase(ctx, conn, name, ""); err != nil {
		drop() // also one whose making nobody heard of
		return "", nil, err
	}
	return name, drop, nil
}

// copyInto copies the tenant's database into the clone.
func (d *dryRun) copyInto(ctx context.Context, t dump.Tools, clone string) error {
	from, cleanup, err := d.client(ctx, d.tenant.Server, d.tenant.Database)
	defer cleanup()
	if err != nil {
		return err
	}
	to := dump.Database{Env: from.Env, Name: clone}
	if !d.options.SchemaOnly {
		if err := noClone(t.Pipe(ctx, from, to)); err != nil {
			return err
		}
		return d.analyze(ctx, d.tenant.Server, clone)
	}
	if err := noClone(t.Pipe(ctx, from, to, "--schema-only")); err != nil {
		return err
	}
	// Which migrations it has are rows.
	return noClone(t.Pipe(ctx, from, to, "--data-only", "--table="+d.set.Table, "--table="+migrations.Product(nil).Table))
}

// noClone says what a failed copy is to a dry run.
func noClone(err error) error {
	if errors.Is(err, dump.ErrFailed) {
		return fmt.Errorf("%w: %w", errNoClone, err)
	}
	return err
}

// analyze gives a database the statistics that a copy doesn't have: without them
// statements would be planned as nowhere else.
func (f *Fleet) analyze(ctx context.Context, server, database string) error {
	cfg, err := f.ownerConfig(ctx, server, database)
	if err != nil {
		return err
	}
	cfg.RuntimeParams["statement_timeout"] = "0"
	conn, err := connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	_, err = conn.Exec(ctx, "analyze")
	return translate(ctx, err)
}
