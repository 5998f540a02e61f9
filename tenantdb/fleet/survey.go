package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/tenantdb"
)

// survey is what comparing a restored catalog with its servers has shown.
type survey struct {
	*Fleet
	mark             string
	servers, tenants int
	known            map[catalog.TenantID]bool // deleted ones too

	mu        sync.Mutex // guards what follows
	confirmed int
	fence     int64              // the highest that was found
	doubtful  []catalog.TenantID // of whom it isn't known what became of them
	notes     []Notice
}

// identity is what a tenant's database says of itself.
type identity struct {
	ID                      catalog.TenantID
	Fence                   int64
	Slug, Name, Email, Plan string
	Used                    bool // somebody has asked it something
}

// Whole rows are read, so that schemas without names can be too.
const selectWho = `
select i.tenant as id, i.fence, coalesce(to_jsonb(i) ->> 'slug', '') as slug, coalesce(to_jsonb(i) ->> 'name', '') as name,
       coalesce(to_jsonb(i) ->> 'email', '') as email, coalesce(to_jsonb(i) ->> 'plan', '') as plan,
       exists (select from freehold.predictions) as used
  from freehold.tenant_identity i`

// stateNoTable is how a database answers that has nothing of ours.
const stateNoTable = "42P01"

// who reads the identity of a database; tenantdb.ErrNotFound when it has none.
func (f *Fleet) who(ctx context.Context, server, database string) (identity, *pgx.Conn, error) {
	cfg, err := f.ownerConfig(ctx, server, database)
	if err != nil {
		return identity{}, nil, err
	}
	conn, err := connect(ctx, cfg)
	if err != nil {
		return identity{}, nil, err
	}
	rows, _ := conn.Query(ctx, selectWho) // its error is in rows
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByName[identity])
	if err != nil {
		closeConn(ctx, conn)
		if state(err) == stateNoTable {
			err = tenantdb.ErrNotFound
		}
		return identity{}, nil, translate(ctx, err)
	}
	return found, conn, nil
}

// survey looks at every server and at every database there that bears a tenant's
// name. What can't be reached is a notice; the error is the catalog's, or ctx's.
func (f *Fleet) survey(ctx context.Context) (*survey, error) {
	mark, err := f.mark(ctx)
	if err != nil {
		return nil, err
	}
	s := &survey{Fleet: f, mark: mark, known: map[catalog.TenantID]bool{}}
	if err := f.cat.Residents(ctx, func(r catalog.Resident) { s.known[r.ID] = true }); err != nil {
		return nil, err
	}
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return nil, err
	}
	tenants := map[catalog.TenantID]catalog.Tenant{}
	_, err = f.tenants(ctx, func(t catalog.Tenant) bool {
		tenants[t.ID] = t
		return false
	})
	if err != nil {
		return nil, err
	}
	s.servers, s.tenants = len(servers), len(tenants)
	seen := make([]sighting, len(servers))
	var group errgroup.Group
	group.SetLimit(looksAtOnce)
	for i, server := range servers {
		seen[i].name = server.Name
		group.Go(func() error {
			look, cancel := context.WithTimeout(ctx, lookTime)
			defer cancel()
			if err := (&reconciliation{Fleet: f}).lookAt(look, &seen[i]); err != nil {
				f.log.WarnContext(ctx, "server not compared", "server", server.Name, "reason", reason(ctx, err))
			}
			return nil
		})
	}
	_ = group.Wait() // who can't be seen is told below
	s.compare(ctx, tenants, seen)
	slices.SortFunc(s.notes, func(a, b Notice) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Server, b.Server), cmp.Compare(a.Tenant, b.Tenant),
			cmp.Compare(a.ID.String(), b.ID.String()))
	})
	return s, ctx.Err()
}

// compare visits every database, a few at a time.
func (s *survey) compare(ctx context.Context, tenants map[catalog.TenantID]catalog.Tenant, seen []sighting) {
	elsewhere := map[catalog.TenantID]string{}
	for _, server := range seen {
		for id := range server.databases {
			if t, known := tenants[id]; known && t.Server != server.name {
				elsewhere[id] = server.name
			}
		}
	}
	var group errgroup.Group
	group.SetLimit(proveParallel)
	for _, server := range seen {
		s.server(server, tenants, elsewhere)
		for id, d := range server.databases {
			t := tenants[id]
			switch {
			case t.Server == server.name && t.State != catalog.Provisioning:
				group.Go(func() error {
					s.tenant(ctx, t)
					return nil
				})
			case !s.known[id] && (d.mark == s.mark || !strings.HasPrefix(d.mark, catalogMark)):
				group.Go(func() error {
					s.stranger(ctx, server.name, id)
					return nil
				})
			}
		}
	}
	_ = group.Wait() // failures are notices
}

// server tells of a server that couldn't be looked at, and of tenants that aren't
// on it.
func (s *survey) server(seen sighting, tenants map[catalog.TenantID]catalog.Tenant, elsewhere map[catalog.TenantID]string) {
	n := 0
	for _, t := range tenants {
		if t.Server != seen.name || t.State == catalog.Provisioning {
			continue
		}
		_, there := seen.databases[t.ID]
		switch {
		case !seen.seen:
			n++
			s.doubt(t.ID)
		case there:
		case elsewhere[t.ID] != "":
			s.doubt(t.ID)
			s.note(Notice{Kind: noticeMissing, Tenant: t.Slug, ID: t.ID, Server: seen.name, Fix: "freehold tenant show " + t.Slug,
				What: "its database is not on server " + seen.name + " but on " + elsewhere[t.ID] + ": it was moved since the backup"})
		default:
			s.doubt(t.ID)
			s.note(Notice{Kind: noticeMissing, Tenant: t.Slug, ID: t.ID, Server: seen.name, Fix: "freehold tenant show " + t.Slug,
				What: "its database is not on server " + seen.name + ": it was deleted, or moved, since the backup"})
		}
	}
	if !seen.seen {
		s.note(Notice{Kind: noticeUnreachable, Server: seen.name, Fix: "when it is back: freehold doctor",
			What: "server " + seen.name + " can't be reached: " + count(n, "tenant") + " could not be compared"})
	}
}

// tenant compares a tenant with its database.
func (s *survey) tenant(ctx context.Context, t catalog.Tenant) {
	var login, role bool
	found, conn, err := s.who(ctx, t.Server, t.Database)
	if err == nil {
		login, role, err = canLogin(ctx, conn, t.Role)
		closeConn(ctx, conn)
		if err == nil && found.ID != t.ID {
			err = tenantdb.ErrForeign
		}
	}
	n := Notice{Tenant: t.Slug, ID: t.ID, Server: t.Server}
	switch {
	case errors.Is(err, tenantdb.ErrNotFound) || errors.Is(err, tenantdb.ErrForeign):
		n.Kind, n.What, n.Fix = noticeMissing, "its database does not say that it is this tenant's", "freehold tenant prove "+t.Slug
	case err != nil:
		n.Kind, n.What, n.Fix = noticeUnreachable, "its database can't be reached: "+reason(ctx, err), "when it is back: freehold doctor"
	case !role:
		s.raise(found.Fence)
		n.Kind, n.What, n.Fix = noticeMissing, "its role is not on server "+t.Server+": nobody can serve it", "freehold tenant show "+t.Slug
	case t.State == catalog.Active && !login:
		// What it was stopped for the catalog has lost: it isn't served by itself again.
		s.raise(found.Fence)
		n.Kind, n.What = noticeChanged, "it was suspended, or being deleted, when the catalog was lost: its role can't log in, and it isn't served"
		n.Fix = "freehold tenant suspend " + t.Slug + ", or freehold tenant resume " + t.Slug
	case found.Fence > t.Epoch:
		s.raise(found.Fence)
		n.Kind, n.What = noticeChanged, "it was changed since the backup: look at its keys, policy and state"
		n.Fix = "freehold tenant show " + t.Slug + ", freehold key list " + t.Slug + ", freehold config get " + t.Slug
	default:
		s.raise(found.Fence)
		s.confirm()
		return
	}
	s.doubt(t.ID)
	s.note(n)
}

// stranger tells of a database that bears a tenant's name, which the catalog
// doesn't know.
func (s *survey) stranger(ctx context.Context, server string, id catalog.TenantID) {
	found, conn, err := s.who(ctx, server, id.DatabaseName())
	if err != nil {
		// Half made, or dropped meanwhile: of what is left the reconciler tells.
		s.log.WarnContext(ctx, "database without a tenant can't be read", "server", server, "tenant", id.String(), "reason", reason(ctx, err))
		return
	}
	closeConn(ctx, conn)
	if found.ID != id {
		return
	}
	s.raise(found.Fence)
	n := Notice{Kind: noticeFound, Tenant: found.Slug, ID: id, Server: server,
		What: fmt.Sprintf("tenant %s is younger than the backup", cmp.Or(found.Slug, id.String())),
		Fix:  "freehold tenant adopt " + id.String() + " --server " + server}
	if found.Slug == "" {
		n.Fix += " --slug SLUG"
		if !found.Used {
			n.Kind, n.What = noticeUnnamed, "an empty database without a name: it was a ready one, or a tenant's in its first seconds"
		}
	}
	s.note(n)
}

func (s *survey) note(n Notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notes = append(s.notes, n)
}

func (s *survey) doubt(id catalog.TenantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubtful = append(s.doubtful, id)
}

func (s *survey) confirm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.confirmed++
}

func (s *survey) raise(fence int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fence = max(s.fence, fence)
}
