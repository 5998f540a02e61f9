package cli

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) serverCmd() *cobra.Command {
	return group("server", "Postgres servers that hold tenants' databases", e.serverAdd(), e.serverSet(), e.serverList(), e.serverShow(),
		e.serverDrain(), e.serverRemove())
}

func (e *env) serverAdd() *cobra.Command {
	var (
		a            fleet.ServerAdd
		takes        serverFlags
		passwordFile string
	)
	c := &cobra.Command{
		Use:   "add NAME --url postgres://ADMIN@HOST:5432/postgres?sslmode=verify-full --password-file FILE",
		Short: "Check a server and take it in",
		Long: `Check a server and take it in.

The admin role needs LOGIN, CREATEDB and CREATEROLE, nothing more. A superuser
runs one statement once; when it is missing, this command prints it and refuses.
Moves by replication need more; what is missing is a warning, and such moves are
copies then, while requests wait. How the other servers are reached is tried.

The same name again, for the same host, changes how it is reached; what it takes
stays unless it is said anew.`,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	c.RunE = e.with(func(ctx context.Context, p *app.Platform, args []string) error {
		a.Name = args[0]
		if u, err := url.Parse(a.URL); err != nil || u.User == nil {
			return fmt.Errorf("%w: --url wants postgres://ADMIN@HOST:PORT/postgres", errUsage)
		} else if _, has := u.User.Password(); has {
			return fmt.Errorf("%w: %w", errUsage, errNoSecretInURL)
		}
		patch, err := takes.patch(c)
		if err != nil {
			return err
		}
		takes.into(&a, patch)
		if a.Password, err = e.secret(passwordFile, "password of the admin role"); err != nil {
			return err
		}
		s, err := p.Fleet.AddServer(ctx, a)
		if err != nil {
			return named("server", a.Name, err)
		}
		if err := audit(ctx, p, "server.add", catalog.TenantID{}, map[string]any{"server": s.Name}); err != nil {
			return err
		}
		for _, what := range fleet.Lacks(s) {
			sayTo(e.err, "warning: %s", what)
		}
		return e.showServers(s, []catalog.Server{s})
	})
	f := c.Flags()
	f.StringVar(&a.URL, "url", "", "postgres://ADMIN@HOST:PORT/postgres?sslmode=verify-full&sslrootcert=FILE, without password")
	f.StringVar(&passwordFile, "password-file", "-", "file that holds the admin role's password; - reads standard input")
	f.StringVar(&a.Region, "region", "", "where it stands")
	f.BoolVar(&a.Insecure, "insecure", false, "take in a remote server without sslmode=verify-full")
	takes.add(c)
	return c
}

func (e *env) serverSet() *cobra.Command {
	var takes serverFlags
	c := &cobra.Command{
		Use: "set NAME", Short: "Change what a server takes: its state, labels, plans, limits, connections", Args: usageArgs(cobra.ExactArgs(1)),
		Example: `  freehold server set pg-1 --state draining
  freehold server set pg-2 --plan enterprise --label disk=nvme --ready 20 --max-recovery 2m --disk 500GB`,
	}
	c.RunE = e.with(func(ctx context.Context, p *app.Platform, args []string) error {
		patch, err := takes.patch(c)
		if err != nil {
			return err
		}
		if patch == (catalog.ServerPatch{}) {
			return fmt.Errorf("%w: nothing to change: name a flag", errUsage)
		}
		s, err := p.Catalog.SetServer(ctx, args[0], patch)
		if err != nil {
			return named("server", args[0], err)
		}
		if err := audit(ctx, p, "server.set", catalog.TenantID{}, map[string]any{"server": s.Name, "set": patch}); err != nil {
			return err
		}
		return e.showServers(s, []catalog.Server{s})
	})
	takes.add(c)
	c.Flags().StringVar(&takes.state, "state", "", "active, draining (takes no new tenants) or down (the same, and work on whole databases leaves it out)")
	return c
}

func (e *env) serverList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List servers", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			list, err := p.Catalog.Servers(ctx)
			if err != nil {
				return err
			}
			return e.showServers(list, list)
		}),
	}
}

func (e *env) serverShow() *cobra.Command {
	var check bool
	c := &cobra.Command{
		Use: "show NAME", Short: "Show one server", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Show one server.

With --check it is tried anew whether tenants can move there, and from there, by
replication.`,
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			if check {
				if err := p.Fleet.CheckLinks(ctx, args[0]); err != nil {
					return named("server", args[0], err)
				}
			}
			servers, err := p.Catalog.Servers(ctx)
			if err != nil {
				return err
			}
			at := slices.IndexFunc(servers, func(s catalog.Server) bool { return s.Name == args[0] })
			if at < 0 {
				return named("server", args[0], catalog.ErrNotFound)
			}
			links, err := p.Catalog.ServerLinks(ctx, args[0])
			if err != nil {
				return err
			}
			return e.showServer(servers[at], servers, links)
		}),
	}
	c.Flags().BoolVar(&check, "check", false, "try moves by replication with the other servers anew")
	return c
}

// shownServer is a server with what was tried between it and the others.
type shownServer struct {
	catalog.Server
	Links []catalog.ServerLink `json:"links"`
}

func (e *env) serverRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Forget a server that holds no tenant", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			if err := p.Catalog.RemoveServer(ctx, args[0]); err != nil {
				return named("server", args[0], err)
			}
			if err := audit(ctx, p, "server.remove", catalog.TenantID{}, map[string]any{"server": args[0]}); err != nil {
				return err
			}
			return e.show(map[string]any{"server": args[0], "removed": true}, table{rows: [][]string{{"removed " + args[0]}}})
		}),
	}
}

func (e *env) showServers(value any, list []catalog.Server) error {
	t := table{head: []string{"server", "state", "region", "postgres", "databases", "ready", "recovery", "disk", "budget", "plans", "labels"}}
	for _, s := range list {
		t.add(s.Name, s.State, s.Region, postgres(s), used(s.Databases, s.Limit), used(s.ReadyNow, s.Ready), recovery(s), disk(s),
			strconv.Itoa(s.Budget), strings.Join(s.Plans, ","), labelled(s.Labels))
	}
	return e.show(value, t)
}

func (e *env) showServer(s catalog.Server, servers []catalog.Server, links []catalog.ServerLink) error {
	if links == nil {
		links = []catalog.ServerLink{}
	}
	most := "as recovery allows"
	if s.MaxDatabases > 0 {
		most = strconv.Itoa(s.MaxDatabases)
	}
	t := table{rows: [][]string{
		{"server", s.Name},
		{"id", s.ID},
		{"state", s.State},
		{"region", s.Region},
		{"address", s.Host + ":" + strconv.Itoa(s.Port)},
		{"tls", s.SSLMode},
		{"postgres", postgres(s)},
		{"connections", fmt.Sprintf("budget %d, reserve %d of %d", s.Budget, s.Reserve, s.MaxConnections)},
		{"plans", or(strings.Join(s.Plans, ", "), "any that no server lists")},
		{"labels", labelled(s.Labels)},
		{"tenants", strconv.Itoa(s.Tenants)},
		{"ready databases", used(s.ReadyNow, s.Ready)},
		{"kept databases", strconv.Itoa(s.Kept)},
		{"databases", used(s.Databases, s.Limit) + ", room for " + strconv.Itoa(s.Room)},
		{"at most", most},
		{"after a crash", recovery(s)},
		{"files", fmt.Sprintf("%d, %d a database", s.Files, s.FilesADatabase)},
		{"sync method", or(s.SyncMethod, "not known, taken for fsync")},
		{"disk", disk(s)},
		{"measured", momentOr(s.MeasuredAt, "not yet")},
		{"added", moment(s.CreatedAt)},
		{"wal level", or(s.WALLevel, "not looked yet")},
	}}
	if text := arrivals(s.Name, servers, links); text != "" {
		t.add("moves", text)
	}
	for _, what := range fleet.Lacks(s) {
		t.add("note", what)
	}
	return e.show(shownServer{s, links}, t)
}

func postgres(s catalog.Server) string { return fmt.Sprintf("%d.%d", s.Version/10000, s.Version%10000) }

func recovery(s catalog.Server) string { return fmt.Sprintf("%d s of %d s", s.Recovery, s.MaxRecovery) }

func labelled(labels map[string]string) string {
	var list []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		list = append(list, k+"="+labels[k])
	}
	return strings.Join(list, ",")
}
