// Package cli is the operators' command line. Commands act on the catalog and
// on whole databases, as the admin API does; tables are for people, JSON for
// scripts, and progress goes to stderr.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

// Exit statuses.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitPartial = 3
)

// errUsage marks what the caller has to say differently.
var errUsage = errors.New("usage")

// exitError carries another program's exit status.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// env is what every command works with.
type env struct {
	cfg      app.Config
	version  string
	output   string
	levelSet bool // somebody asked for a log level
	stdin    io.Reader
	out, err io.Writer
}

// Run runs one command and returns the process's exit status.
func Run(ctx context.Context, version string, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	e := &env{cfg: app.FromEnv(os.Getenv), version: version, stdin: stdin, out: stdout, err: stderr}
	root := e.root()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var exit exitError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &exit):
		return int(exit)
	}
	if invalid, ok := errors.AsType[*catalog.Invalid](err); ok {
		err = invalid // it says which field; who passed it on matters to nobody
	}
	fmt.Fprintln(stderr, "freehold:", err)
	switch {
	case errors.Is(err, errUsage), errors.Is(err, app.ErrConfig), errors.Is(err, catalog.ErrInvalid):
		return exitUsage
	case errors.Is(err, fleet.ErrPartial):
		return exitPartial
	default:
		return exitFailed
	}
}

func (e *env) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "freehold",
		Short:         "A database-per-tenant AI platform: each tenant owns a Postgres database, an object-store prefix, its models and its bill",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          usageArgs(cobra.NoArgs),
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errUsage, err) })
	f := root.PersistentFlags()
	f.StringVarP(&e.output, "output", "o", "table", "table or json")
	f.StringVar(&e.cfg.LogLevel, "log-level", e.cfg.LogLevel, "debug, info, warn or error (FREEHOLD_LOG_LEVEL)")
	f.StringVar(&e.cfg.MasterKeyFile, "master-key-file", e.cfg.MasterKeyFile, "tink keyset (FREEHOLD_MASTER_KEY_FILE)")
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		e.levelSet = c.Flags().Changed("log-level") || os.Getenv("FREEHOLD_LOG_LEVEL") != ""
		if e.output != "table" && e.output != "json" && (e.output != csvOutput || c.Annotations[csvOutput] == "") {
			return fmt.Errorf("%w: --output is table or json, not %q", errUsage, e.output)
		}
		return nil
	}
	root.AddCommand(
		e.devCmd(), e.serveCmd(), e.workerCmd(), e.statusCmd(), e.catalogCmd(), e.serverCmd(), e.tenantCmd(),
		e.keyCmd(), e.configCmd(), e.engineCmd(), e.modelCmd(), e.migrateCmd(), e.routerCmd(), e.mailCmd(),
		e.tokenCmd(), e.auditCmd(), e.keysetCmd(), e.backupCmd(),
		e.operationCmd(), e.usageCmd(),
		e.doctorCmd(), e.versionCmd(),
	)
	root.InitDefaultCompletionCmd("completion")
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			strictCompletion(c)
		}
	}
	return root
}

// strictCompletion makes wrong arguments usage errors: the framework answers an
// unknown shell with help and status 0.
func strictCompletion(c *cobra.Command) {
	c.Args, c.RunE = usageArgs(cobra.NoArgs), func(c *cobra.Command, _ []string) error { return c.Help() }
	for _, shell := range c.Commands() {
		shell.Args = usageArgs(cobra.NoArgs)
	}
}

// group makes a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: func(c *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%w: %s has no command %q", errUsage, c.CommandPath(), args[0])
		}
		return nil
	}, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(subs...)
	return c
}

// usageArgs makes a wrong number of arguments a usage error.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return fmt.Errorf("%w: %w\nusage: %s", errUsage, err, c.UseLine())
		}
		return nil
	}
}

// open opens the platform for one command. The caller closes it.
func (e *env) open(c *cobra.Command, need app.Need) (*app.Platform, error) {
	return app.Open(c.Context(), e.cfg, need, e.quiet().Logger(true))
}

// work is a command on the platform.
type work func(ctx context.Context, p *app.Platform, args []string) error

// with is open for the commands that need nothing but the catalog and servers.
func (e *env) with(run work) func(*cobra.Command, []string) error {
	return e.withAll(app.NeedCatalog, run)
}

// withAll is with for those that need more.
func (e *env) withAll(need app.Need, run work) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		p, err := e.open(c, need)
		if err != nil {
			return err
		}
		defer p.Close()
		return run(c.Context(), p, args)
	}
}

// tenant finds the tenant that a command names.
func tenant(ctx context.Context, p *app.Platform, slug string) (catalog.Tenant, error) {
	t, err := p.Catalog.TenantBySlug(ctx, slug)
	if err != nil {
		return t, named("tenant", slug, err)
	}
	return t, nil
}

// named says which object an error is about. Of the plainest ones that is all
// that there is to say.
func named(what, name string, err error) error {
	for _, plain := range []error{catalog.ErrExists, catalog.ErrNotFound} {
		if errors.Is(err, plain) {
			err = plain
		}
	}
	return fmt.Errorf("%s %s: %w", what, name, err)
}

// stands reports whether a change was made, also when its error says that the
// tenant's database could not be told or sessions are left.
func stands(err error) bool {
	return err == nil || errors.Is(err, fleet.ErrUnfenced) || errors.Is(err, fleet.ErrSessionsLeft)
}

// again says of a change that stands, and isn't everywhere yet, how it gets there.
func again(err error) error {
	if err != nil && stands(err) {
		return fmt.Errorf("%w; run this again when it answers", err)
	}
	return err
}

// hinted says of a conflict which command leads out of the tenant's state.
func hinted(t catalog.Tenant, err error) error {
	next := map[catalog.State]string{
		catalog.Deleting:     "freehold tenant undelete",
		catalog.Suspended:    "freehold tenant resume",
		catalog.Provisioning: "freehold operation list --tenant",
	}[t.State]
	if next == "" || !errors.Is(err, catalog.ErrConflict) {
		return err
	}
	return fmt.Errorf("%w: %s %s", err, next, t.Slug)
}

// audit records what the operator at this terminal did.
func audit(ctx context.Context, p *app.Platform, action string, id catalog.TenantID, detail map[string]any) error {
	return p.Catalog.AppendAudit(ctx, actor(), action, id, detail)
}

// actor is who sits at this terminal, as the audit names them.
func actor() string {
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
