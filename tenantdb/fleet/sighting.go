package fleet

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations"
)

// sighting is what was seen on a server that bears a tenant's name.
type sighting struct {
	name      string
	seen      bool // it answered
	databases map[catalog.TenantID]database
	roles     map[catalog.TenantID]string // the mark that it bears
	aside     map[string]string           // databases that operations set aside: the mark
	moves     []string                    // names of replications
}

type database struct {
	mark, owner string
	open        bool // to everybody
}

const ownerRole = migrations.RoleOwner

const (
	// lookTime bounds what is waited for a server.
	lookTime = 20 * time.Second
	// storeTime bounds what is waited for the object store: a thousand prefixes are
	// a request.
	storeTime = 2 * time.Minute
	// looksAtOnce is how many servers are looked at at a time.
	looksAtOnce = 4
)

// look looks at every server that isn't down and at the object store. What can't
// be seen is logged; the error is the catalog's, or ctx's.
func (r *reconciliation) look(ctx context.Context) error {
	servers, err := r.cat.Servers(ctx)
	if err != nil {
		return err
	}
	r.servers = make([]sighting, len(servers))
	var group errgroup.Group
	group.SetLimit(looksAtOnce)
	for i, s := range servers {
		r.servers[i] = sighting{name: s.Name}
		if s.State == "down" {
			continue
		}
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, lookTime)
			defer cancel()
			if err := r.lookAt(ctx, &r.servers[i]); err != nil {
				r.log.WarnContext(ctx, "server not reconciled", "server", s.Name, "reason", reason(ctx, err))
			}
			return nil
		})
	}
	if r.blob != nil {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, storeTime)
			defer cancel()
			if err := r.lookIntoStore(ctx); err != nil {
				r.log.WarnContext(ctx, "object store not reconciled", "reason", reason(ctx, storeError(ctx, err)))
			}
			return nil
		})
	}
	_ = group.Wait() // who can't be seen is logged
	for _, s := range r.servers {
		if !s.seen {
			r.blind[s.name] = true
		}
	}
	if r.prefixes == nil {
		r.blind[""] = true
	}
	return ctx.Err()
}

// unseen are the servers, as findings name them and as people do, that couldn't be
// looked at each time.
func (r *reconciliation) unseen() (servers, names []string) {
	servers = slices.Sorted(maps.Keys(r.blind))
	names = []string{}
	for _, s := range servers {
		switch {
		case s != "":
			names = append(names, s)
		case r.blob != nil:
			names = append(names, "object store")
		}
	}
	return servers, names
}

const (
	selectOurDatabases = `
select d.datname, coalesce(shobj_description(d.oid, 'pg_database'), ''), coalesce(o.rolname, d.datdba::text),
       d.datallowconn and coalesce(has_database_privilege('public', d.oid, 'connect, create, temporary'), false)
  from pg_database d left join pg_roles o on o.oid = d.datdba where d.datname ~ '^t_[0-9a-f]{32}$'`
	selectOurRoles = `
select r.rolname, coalesce(shobj_description(r.oid, 'pg_authid'), '')
  from pg_roles r where r.rolname ~ '^t_[0-9a-f]{32}$'`
)

func (r *reconciliation) lookAt(ctx context.Context, s *sighting) error {
	conn, err := r.admin(ctx, s.name, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	s.databases, s.roles = map[catalog.TenantID]database{}, map[catalog.TenantID]string{}
	var name, mark string
	var d database
	rows, _ := conn.Query(ctx, selectOurDatabases) // its error is in rows
	_, err = pgx.ForEachRow(rows, []any{&name, &d.mark, &d.owner, &d.open}, func() error {
		if id, ok := tenantNamed(name); ok {
			s.databases[id] = d
		}
		return nil
	})
	if err != nil {
		return translate(ctx, err)
	}
	rows, _ = conn.Query(ctx, selectOurRoles) // its error is in rows
	_, err = pgx.ForEachRow(rows, []any{&name, &mark}, func() error {
		if id, ok := tenantNamed(name); ok {
			s.roles[id] = mark
		}
		return nil
	})
	if err == nil {
		err = s.lookAside(ctx, conn, r.links)
	}
	s.seen = err == nil
	return translate(ctx, err)
}

// tenantNamed is whose name t_<32 hex> is.
func tenantNamed(database string) (catalog.TenantID, bool) {
	if len(database) != 34 {
		return catalog.TenantID{}, false
	}
	hex := database[2:]
	id, err := catalog.ParseTenantID(hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:])
	return id, err == nil && !id.IsZero()
}

func (r *reconciliation) lookIntoStore(ctx context.Context) error {
	prefixes := map[catalog.TenantID]bool{}
	strange := []string{}
	err := r.blob.Tenants(ctx, func(id catalog.TenantID, ok bool, prefix string) error {
		if ok {
			prefixes[id] = true
		} else {
			strange = append(strange, prefix)
		}
		return nil
	})
	r.prefixes, r.strange = nil, nil
	if err == nil {
		r.prefixes, r.strange = prefixes, strange
	}
	return err
}
