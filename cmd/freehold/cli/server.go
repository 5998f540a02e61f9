package cli

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) catalogCmd() *cobra.Command {
	migrate := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the catalog database up; the first time this also writes a new master key",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			from, to, newKey, err := app.MigrateCatalog(c.Context(), e.cfg, e.quiet().Logger(true))
			if err != nil {
				return err
			}
			if newKey {
				sayTo(e.err, "new master key in %s: keep a copy elsewhere, without it no sealed secret can be read", e.cfg.MasterKeyFile)
			}
			return e.show(map[string]any{"from": from, "to": to, "new_master_key": newKey},
				table{rows: [][]string{{fmt.Sprintf("catalog at version %d (was %d)", to, from)}}})
		},
	}
	return group("catalog", "The catalog database", migrate)
}

func (e *env) serverCmd() *cobra.Command {
	return group("server", "Postgres servers that hold tenants' databases", e.serverAdd(), e.serverList(), e.serverShow(), e.serverRemove())
}

func (e *env) serverAdd() *cobra.Command {
	var (
		a            fleet.ServerAdd
		passwordFile string
	)
	c := &cobra.Command{
		Use:   "add NAME --url postgres://ADMIN@HOST:5432/postgres?sslmode=verify-full --password-file FILE",
		Short: "Check a server and take it in",
		Long: `Check a server and take it in.

The admin role needs LOGIN, CREATEDB and CREATEROLE, nothing more. A superuser
runs one statement once; when it is missing, this command prints it and refuses.`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			a.Name = args[0]
			if u, err := url.Parse(a.URL); err != nil || u.User == nil {
				return fmt.Errorf("%w: --url wants postgres://ADMIN@HOST:PORT/postgres", errUsage)
			} else if _, has := u.User.Password(); has {
				return fmt.Errorf("%w: %w", errUsage, errNoSecretInURL)
			}
			var err error
			if a.Password, err = e.secret(passwordFile, "password of the admin role"); err != nil {
				return err
			}
			s, err := p.Fleet.AddServer(ctx, a)
			if err != nil {
				return err
			}
			if err := audit(ctx, p, "server.add", catalog.TenantID{}, map[string]any{"server": s.Name}); err != nil {
				return err
			}
			return e.showServers(s, []catalog.Server{s})
		}),
	}
	f := c.Flags()
	f.StringVar(&a.URL, "url", "", "postgres://ADMIN@HOST:PORT/postgres?sslmode=verify-full&sslrootcert=FILE, without password")
	f.StringVar(&passwordFile, "password-file", "-", "file that holds the admin role's password; - reads standard input")
	f.StringVar(&a.Region, "region", "", "where it stands")
	f.IntVar(&a.Budget, "budget", 0, "connections for tenants (default: what max_connections leaves)")
	f.IntVar(&a.Reserve, "reserve", 0, "connections kept for administration (default: a tenth, at least 5)")
	f.BoolVar(&a.Insecure, "insecure", false, "take in a remote server without sslmode=verify-full")
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
	return &cobra.Command{
		Use: "show NAME", Short: "Show one server", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			list, err := p.Catalog.Servers(ctx)
			if err != nil {
				return err
			}
			for _, s := range list {
				if s.Name == args[0] {
					return e.showServers(s, []catalog.Server{s})
				}
			}
			return fmt.Errorf("server %s: %w", args[0], catalog.ErrNotFound)
		}),
	}
}

func (e *env) serverRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove NAME", Short: "Forget a server that holds no tenant", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			if err := p.Catalog.RemoveServer(ctx, args[0]); err != nil {
				return named("server", args[0], err)
			}
			return audit(ctx, p, "server.remove", catalog.TenantID{}, map[string]any{"server": args[0]})
		}),
	}
}

func (e *env) showServers(value any, list []catalog.Server) error {
	t := table{head: []string{"server", "region", "address", "tls", "postgres", "tenants", "budget", "reserve", "state"}}
	for _, s := range list {
		t.add(s.Name, s.Region, s.Host+":"+strconv.Itoa(s.Port), s.SSLMode, fmt.Sprintf("%d.%d", s.Version/10000, s.Version%10000),
			strconv.Itoa(s.Tenants), strconv.Itoa(s.Budget), strconv.Itoa(s.Reserve), s.State)
	}
	return e.show(value, t)
}
