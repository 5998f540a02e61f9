package fleet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/tenantdb"
)

// comparison looks at tenants' databases and compares each with its reference.
type comparison struct {
	*Fleet
	parallel int  // databases at once, on each server; 0: 4
	rebuilds bool // indexes that aren't valid
	tidies   bool // what earlier ones have left on servers

	refs *references
}

// compared is what was found of one tenant.
type compared struct {
	tenant  catalog.Tenant
	schema  catalog.TenantSchema
	rebuilt []RebuiltIndex
	gone    bool   // deleted, suspended or moved meanwhile: somebody else's business
	unseen  string // why it couldn't be looked at
}

const (
	// savedAtOnce is how many tenants' schemas are saved in one transaction.
	savedAtOnce = 100
	// mostSilent is how many databases of a server are tried in vain before the others
	// aren't any more.
	mostSilent = 3
)

// run compares all of them, tells each as it is known, from its own goroutine, and
// saves what was found. The error is the catalog's, or ctx's.
func (c *comparison) run(ctx context.Context, tenants []catalog.Tenant, tell func(compared)) error {
	c.refs = c.references()
	servers := map[string][]catalog.Tenant{}
	for _, t := range tenants {
		servers[t.Server] = append(servers[t.Server], t)
	}
	working, cancel := context.WithCancel(ctx)
	defer cancel()
	found := make(chan compared)
	failed := make(chan error, 1)
	go func() {
		group, working := errgroup.WithContext(working)
		for name, queue := range servers {
			group.Go(func() error { return c.server(working, name, queue, found) })
		}
		failed <- group.Wait()
		close(found)
	}()
	var unsaved []catalog.TenantSchema
	var saving error
	save := func(ctx context.Context) {
		if len(unsaved) > 0 && saving == nil {
			if saving = c.cat.SaveSchemas(ctx, unsaved); saving != nil {
				cancel()
			}
		}
		unsaved = nil
	}
	for one := range found {
		tell(one)
		if !one.gone && one.unseen == "" {
			unsaved = append(unsaved, one.schema)
		}
		if len(unsaved) == savedAtOnce {
			save(ctx)
		}
	}
	// Also when ctx is over: it was found, and it is the truth.
	last, stop := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer stop()
	save(last)
	if err := <-failed; saving == nil {
		return err
	}
	return saving
}

// server compares the databases of one server.
func (c *comparison) server(ctx context.Context, name string, tenants []catalog.Tenant, found chan<- compared) error {
	s, err := c.cat.Server(ctx, name)
	if err != nil {
		return err
	}
	shut := "" // why none of them can be looked at
	cfg, err := c.cat.ServerAdmin(ctx, name, maintenance)
	switch {
	case errors.Is(err, catalog.ErrUnavailable):
		return err
	case err != nil:
		shut = "server " + name + ": " + reason(ctx, err)
	case s.State == catalog.ServerDown:
		shut = "server " + name + " is down"
	case c.tidies:
		c.dropOldScratch(ctx, name)
	}
	queue := make(chan catalog.Tenant, len(tenants))
	for _, t := range tenants {
		queue <- t
	}
	close(queue)
	var silent atomic.Int32 // databases one after another that took no connection
	var group errgroup.Group
	for range min(len(tenants), cmp.Or(max(c.parallel, 0), 4)) {
		group.Go(func() error {
			for t := range queue {
				one := compared{tenant: t}
				switch {
				case shut != "":
					one.unseen = shut
				case silent.Load() >= mostSilent:
					one.unseen = "server " + name + " takes no connections"
				default:
					one = c.tenant(ctx, cfg, t, &silent)
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				found <- one // it is read until all servers are done
			}
			return nil
		})
	}
	return group.Wait()
}

// tenant compares one, and again once its indexes are rebuilt.
func (c *comparison) tenant(ctx context.Context, cfg *pgx.ConnConfig, t catalog.Tenant, silent *atomic.Int32) compared {
	one := compared{tenant: t}
	err := c.compare(ctx, cfg, &one, silent)
	if err == nil && c.rebuilds && len(one.schema.InvalidIndexes) > 0 {
		if one.rebuilt, err = c.rebuild(ctx, one.tenant); err == nil {
			err = c.compare(ctx, cfg, &one, silent)
		}
	}
	if err != nil {
		one.unseen = reason(ctx, err)
		// It may have been deleted or moved since the list was read.
		now, nerr := c.cat.Tenant(ctx, t.ID)
		one.gone = errors.Is(nerr, catalog.ErrNotFound) || nerr == nil && (now.Server != t.Server || now.State != t.State)
		if one.gone {
			one.unseen = ""
		}
	}
	return one
}

// compareTries is how often a tenant is compared that is migrated meanwhile.
const compareTries = 3

func (c *comparison) compare(ctx context.Context, cfg *pgx.ConnConfig, one *compared, silent *atomic.Int32) error {
	for try := 1; ; try++ {
		again, err := c.tryCompare(ctx, cfg, one, silent)
		if dropped, ok := errors.AsType[*tenantdb.StateError](err); ok && dropped.State == stateInternal && try < compareTries {
			again, err = true, nil
		}
		if err != nil || !again {
			return err
		}
		if try == compareTries {
			return errors.New("it is being changed")
		}
		if err := pause(ctx, time.Duration(try)*compareAgain); err != nil {
			return err
		}
		now, err := c.cat.Tenant(ctx, one.tenant.ID)
		if err != nil {
			return err
		}
		one.tenant = now
	}
}

const (
	// compareAgain is waited before a database is looked at again that changed meanwhile.
	compareAgain = 100 * time.Millisecond
	// What somebody drops while it is described ends in an internal error.
	stateInternal = "XX000"
	// Nobody should wait behind a look for long, nor a look behind others.
	lookLock, lookStatement = "3s", "15s"
)

// tryCompare reports whether the tenant's versions aren't what was known of it: then
// nothing was compared.
func (c *comparison) tryCompare(ctx context.Context, cfg *pgx.ConnConfig, one *compared, silent *atomic.Int32) (again bool, err error) {
	t := one.tenant
	bounded, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	conn, err := connectTo(bounded, cfg, t.Database, silent)
	if err != nil {
		return false, err
	}
	defer closeConn(ctx, conn)
	sum, release, err := Fingerprint(bounded, conn)
	if err != nil {
		return false, err
	}
	known := catalog.Versions{Freehold: t.SchemaVersion, Product: t.ProductVersion}
	one.schema = catalog.TenantSchema{Tenant: t.ID, Fingerprint: sum, Versions: known}
	should, err := c.refs.of(ctx, referenceKey{t.Server, release, known})
	if err == nil && bytes.Equal(sum, should.sum) {
		return false, nil
	}
	// Which versions it has, only itself knows.
	bounded, cancel = context.WithTimeout(ctx, lookTime) // making a reference may have taken long
	defer cancel()
	has, verr := c.versionsOn(bounded, conn)
	if verr != nil {
		return false, verr
	}
	if has != known {
		now, nerr := c.cat.Tenant(ctx, t.ID)
		if nerr != nil {
			return false, nerr
		}
		if now.SchemaVersion != known.Freehold || now.ProductVersion != known.Product {
			return true, nil
		}
		should, err = c.refs.of(ctx, referenceKey{t.Server, release, has})
	}
	if err != nil {
		return false, err
	}
	is, err := look(bounded, conn)
	if err != nil {
		return false, err
	}
	one.schema.Fingerprint, one.schema.Versions = is.sum, has
	one.schema.InvalidIndexes = invalid(is.objects)
	one.schema.Differences = append(otherVersions(known, has), differences(is.objects, should.objects, t.Database)...)
	return false, nil
}

// otherVersions tells that a database isn't where the catalog thinks that it is.
func otherVersions(known, has catalog.Versions) []catalog.Difference {
	var list []catalog.Difference
	for _, v := range []struct {
		stream     catalog.Stream
		known, has int64
	}{{catalog.StreamFreehold, known.Freehold, has.Freehold}, {catalog.StreamProduct, known.Product, has.Product}} {
		if v.known != v.has {
			list = append(list, catalog.Difference{
				Object: "version of stream " + string(v.stream), What: catalog.DiffOther,
				Is: strconv.FormatInt(v.has, 10), Should: strconv.FormatInt(v.known, 10) + ", as the catalog has it",
			})
		}
	}
	return list
}

// connectTo connects to a database of a server and counts those that can't be reached.
// A database that says no is no reason to think so of the others.
func connectTo(ctx context.Context, cfg *pgx.ConnConfig, database string, silent *atomic.Int32) (*pgx.Conn, error) {
	cfg = session(cfg)
	cfg.Database = database
	cfg.RuntimeParams["lock_timeout"], cfg.RuntimeParams["statement_timeout"] = lookLock, lookStatement
	conn, err := pgx.ConnectConfig(ctx, cfg)
	switch {
	case err == nil, state(err) != "":
		silent.Store(0)
	default:
		silent.Add(1)
	}
	if err == nil {
		return conn, nil
	}
	if state(err) == stateNoDatabase {
		return nil, errors.New("there is no such database")
	}
	return nil, translate(ctx, err)
}
