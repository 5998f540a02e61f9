package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"freehold/catalog"
)

// Report is what a reconciliation found and did.
type Report struct {
	Findings []catalog.Finding `json:"findings"` // what is so still
	Mended   []catalog.Finding `json:"mended"`
	Unseen   []string          `json:"unseen"` // servers that were down or didn't answer; "object store"
}

// Kinds of findings, each behind database_, role_ or prefix_.
const (
	findLeft      = "left"      // of a tenant that was deleted
	findElsewhere = "elsewhere" // of a tenant that lives on another server
	findUnknown   = "unknown"   // of nobody that the catalog knows
	findMissing   = "missing"   // a tenant's, and it isn't there
	findOwner     = "owner"     // it isn't owned by whom it should be
	findOpen      = "open"      // everybody can connect to it
)

// What can be found.
const (
	thingDatabase = "database"
	thingRole     = "role"
	thingPrefix   = "prefix"
)

// youngLeftover is for how long what a deletion seems to have left may be of
// somebody who is still at work.
const youngLeftover = 10 * time.Minute

// Reconcile compares servers and the object store with the catalog, writes what it
// finds into the catalog, and removes what is provably left of a deletion of this
// catalog's. All else it only reports. What can't be reached is left as it was
// found before, and named; the error is the catalog's alone, or ctx's. Any number
// of processes may do it at once, and one may be killed at any moment.
func (f *Fleet) Reconcile(ctx context.Context) (Report, error) {
	mark, err := f.mark(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("reconcile: %w", err)
	}
	links, err := f.linkPrefix(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("reconcile: %w", err)
	}
	r := &reconciliation{Fleet: f, ours: mark, links: links, blind: map[string]bool{}}
	report, err := r.run(ctx)
	if err != nil {
		return report, fmt.Errorf("reconcile: %w", err)
	}
	return report, nil
}

type reconciliation struct {
	*Fleet
	ours  string // the mark of this catalog's databases and roles
	links string // what begins the names of its replications

	servers   []sighting
	blind     map[string]bool           // servers that couldn't be looked at each time; "" is the store
	prefixes  map[catalog.TenantID]bool // nil when the store wasn't seen
	strange   []string                  // prefixes that are no tenant's
	residents map[catalog.TenantID]catalog.Resident
	kept      map[[2]string]bool // server and database
	keeps     map[[2]string]bool // server and tenant
	working   map[string]bool    // names of replications
	findings  []catalog.Finding
}

func (r *reconciliation) run(ctx context.Context) (Report, error) {
	found, err := r.once(ctx)
	if err != nil {
		return Report{}, err
	}
	if len(found) > 0 {
		// A thing may have been made, dropped or moved between the look at it and the
		// reading of the catalog: only what is so twice in a row is.
		again, err := r.once(ctx)
		if err != nil {
			return Report{}, err
		}
		before := map[[2]string]bool{}
		for _, f := range found {
			before[key(f)] = true
		}
		found = slices.DeleteFunc(again, func(f catalog.Finding) bool { return !before[key(f)] })
	}
	r.findings = found
	unseen, names := r.unseen()
	known, err := r.cat.ReplaceFindings(ctx, r.findings, unseen)
	if err != nil {
		return Report{}, err
	}
	report := Report{Findings: known, Mended: []catalog.Finding{}, Unseen: names}
	report.Mended = append(r.mend(ctx, known), r.endReplications(ctx, known)...)
	if len(report.Mended) == 0 {
		return report, ctx.Err()
	}
	done := func(f catalog.Finding) bool {
		return slices.ContainsFunc(report.Mended, func(m catalog.Finding) bool { return key(m) == key(f) })
	}
	report.Findings, err = r.cat.ReplaceFindings(ctx, slices.DeleteFunc(r.findings, done), unseen)
	return report, errors.Join(err, ctx.Err())
}

// key tells one finding from the others.
func key(f catalog.Finding) [2]string { return [2]string{f.Kind, f.Object} }

// once looks, reads and judges. What exists was registered before it was made: the
// catalog is read last.
func (r *reconciliation) once(ctx context.Context) ([]catalog.Finding, error) {
	if err := r.look(ctx); err != nil {
		return nil, err
	}
	r.dieAt("reconcile/looked")
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	r.findings = nil
	r.judge()
	return append(r.findings, r.missing()...), nil
}

// read reads who should be there.
func (r *reconciliation) read(ctx context.Context) error {
	r.residents = map[catalog.TenantID]catalog.Resident{}
	if err := r.cat.Residents(ctx, func(one catalog.Resident) { r.residents[one.ID] = one }); err != nil {
		return err
	}
	return r.readKept(ctx)
}

// gone reports whether nothing of it should be there any more.
func gone(one catalog.Resident) bool {
	if one.Ready {
		return one.State == "dropping"
	}
	return one.State == string(catalog.Deleted)
}

// served reports whether all of it must be there.
func served(one catalog.Resident) bool {
	if one.Ready {
		return one.State == "ready"
	}
	return !one.Busy && (one.State == string(catalog.Active) || one.State == string(catalog.Suspended))
}

// called is how people are told of it.
func called(one catalog.Resident) string {
	if one.Ready {
		return "ready database " + one.ID.String()
	}
	return "tenant " + one.Slug
}

// judge finds what shouldn't be there, or not so.
func (r *reconciliation) judge() {
	for _, s := range r.servers {
		if !s.seen {
			continue
		}
		for id, d := range s.databases {
			mark := d.mark
			if mark == "" && s.roles[id] != r.ours {
				mark = s.roles[id] // its role is made before it, and it is marked last
			}
			if f, stray := r.stray(thingDatabase, s, id, mark); stray {
				r.findings = append(r.findings, f)
				continue
			}
			if one := r.residents[id]; one.Server == s.name && served(one) {
				r.shut(s, one, d)
			}
		}
		r.judgeAside(s)
		for id, mark := range s.roles {
			f, stray := r.stray(thingRole, s, id, mark)
			_, with := s.databases[id]
			told := with && f.Kind == thingRole+"_"+findUnknown // by its database
			if stray && !told {
				r.findings = append(r.findings, f)
			}
		}
	}
	if len(r.residents) == 0 && len(r.prefixes) > 0 {
		// Nobody should be told to clear a bucket because the catalog was lost.
		r.findings = append(r.findings, catalog.Finding{
			Kind: thingPrefix + "_" + findUnknown, Object: "tenants/", Fix: "freehold catalog restore --list",
			What: fmt.Sprintf("the object store holds what is of %d tenants, and this catalog knows none", len(r.prefixes)),
		})
		return
	}
	for id := range r.prefixes {
		if f, stray := r.strayPrefix(id); stray {
			r.findings = append(r.findings, f)
		}
	}
	for _, prefix := range r.strange {
		r.findings = append(r.findings, catalog.Finding{
			Kind: thingPrefix + "_" + findUnknown, Object: prefix, What: "prefix " + plain(prefix) + " is no tenant's",
			Fix: "if it is nobody's, remove it from the bucket",
		})
	}
}

// stray judges a database or role that is on a server.
func (r *reconciliation) stray(thing string, s sighting, id catalog.TenantID, mark string) (catalog.Finding, bool) {
	name := id.DatabaseName()
	f := catalog.Finding{Object: s.name + "/" + name, Server: s.name, Tenant: id}
	ours := mark == r.ours
	if !ours && strings.HasPrefix(mark, catalogMark) {
		return f, false // another catalog's
	}
	where := thing + " " + name + " on server " + s.name
	drop := "if nobody needs it, as the server's admin: drop " + thing + " " + name
	one, known := r.residents[id]
	switch {
	case known && (one.Busy || one.State == string(catalog.Moving)):
		return f, false
	case known && gone(one):
		f.Kind, f.What = thing+"_"+findLeft, where+" was left by "+called(one)+", which is gone"
		if !ours {
			f.What += "; it doesn't bear this catalog's mark"
			f.Fix = drop
		}
	case thing == thingRole && r.keeps[[2]string{s.name, id.String()}]:
		return f, false // of a database that is kept
	case known && one.Server != s.name:
		f.Kind, f.Fix = thing+"_"+findElsewhere, drop
		f.What = where + ": " + called(one) + " lives on server " + one.Server
	case known:
		return f, false
	case ours:
		f.Kind = thing + "_" + findUnknown
		f.What = where + " was made by this catalog, which doesn't know it: the catalog may be older than it"
		f.Fix = drop
		if thing == thingDatabase {
			f.Fix = "freehold tenant adopt " + id.String() + " --server " + s.name
		}
	default:
		f.Kind, f.Fix = thing+"_"+findUnknown, drop
		f.What = where + " is of no tenant, and nobody's mark is on it"
	}
	if f.Kind != thing+"_"+findLeft && !known {
		f.Tenant = catalog.TenantID{}
	}
	return f, true
}

func (r *reconciliation) strayPrefix(id catalog.TenantID) (catalog.Finding, bool) {
	prefix := "tenants/" + id.String() + "/"
	f := catalog.Finding{Object: prefix, Tenant: id}
	one, known := r.residents[id]
	switch {
	case known && gone(one) && !one.Busy:
		f.Kind, f.What = thingPrefix+"_"+findLeft, "prefix "+prefix+" was left by "+called(one)+", which is gone"
		return f, true
	case known:
		return f, false
	}
	// A database that bears its name says more.
	if slices.ContainsFunc(r.servers, func(s sighting) bool { _, there := s.databases[id]; return there }) {
		return f, false
	}
	f.Kind, f.Tenant = thingPrefix+"_"+findUnknown, catalog.TenantID{}
	f.What, f.Fix = "prefix "+prefix+" is of no tenant that this catalog knows", "if it is nobody's, remove it from the bucket"
	if _, unseen := r.unseen(); len(unseen) > 0 {
		f.Fix = "look again, with freehold doctor, once these are seen: " + strings.Join(unseen, ", ") + "; its database may be there"
	}
	return f, true
}

// shut judges whether a database that is in its place is closed to strangers.
func (r *reconciliation) shut(s sighting, one catalog.Resident, d database) {
	name := one.ID.DatabaseName()
	f := catalog.Finding{Object: s.name + "/" + name, Server: s.name, Tenant: one.ID}
	if d.owner != ownerRole {
		f.Kind, f.What = thingDatabase+"_"+findOwner, "the database of "+called(one)+" is owned by "+d.owner
		f.Fix = "as a superuser of server " + s.name + ": alter database " + name + " owner to " + ownerRole
		r.findings = append(r.findings, f)
	}
	if d.open {
		f.Kind, f.What = thingDatabase+"_"+findOpen, "the database of "+called(one)+" is open to every role of its server"
		f.Fix = "as the admin of server " + s.name + ": revoke all on database " + name + " from public"
		r.findings = append(r.findings, f)
	}
}

// missing finds what should be there and isn't, where somebody looked.
func (r *reconciliation) missing() (list []catalog.Finding) {
	for _, s := range r.servers {
		if !s.seen {
			continue
		}
		for id, one := range r.residents {
			if one.Server != s.name || !served(one) {
				continue
			}
			if _, there := s.databases[id]; !there {
				list = append(list, absent(thingDatabase, s.name, one))
			}
			if _, there := s.roles[id]; !there {
				list = append(list, absent(thingRole, s.name, one))
			}
		}
	}
	if r.prefixes == nil {
		return list
	}
	for id, one := range r.residents {
		if served(one) && !r.prefixes[id] {
			list = append(list, absent(thingPrefix, "", one))
		}
	}
	return list
}

// plain is a name that others chose, as a terminal can show it.
func plain(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

func absent(thing, server string, one catalog.Resident) catalog.Finding {
	f := catalog.Finding{Kind: thing + "_" + findMissing, Server: server, Tenant: one.ID}
	name := one.ID.DatabaseName()
	f.Object, f.What = server+"/"+name, thing+" "+name+" of "+called(one)+" is not on server "+server
	if thing == thingPrefix {
		f.Object = "tenants/" + one.ID.String() + "/"
		f.What = "prefix " + f.Object + " of " + called(one) + " is not in the object store"
	}
	f.Fix = "freehold tenant show " + one.Slug
	if one.Ready {
		f.Fix = "freehold server show " + one.Server
	}
	return f
}
