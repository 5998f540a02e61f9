package cli

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"freehold/cmd/freehold/app"
)

func (e *env) devCmd() *cobra.Command {
	var tenants int
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run all parts on this machine, with two demo tenants; Ctrl-C stops all, data survives",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if tenants < 2 {
				return fmt.Errorf("%w: --tenants is at least 2", errUsage)
			}
			cfg := e.quiet()
			b := e.bar()
			defer b.end()
			return app.Dev(c.Context(), cfg, e.version, app.Demo{
				Tenants: tenants, Out: e.out,
				Progress: func(done, total int) {
					if b.draw("making tenants", done, total); done == total {
						b.end()
					}
				},
			}, cfg.Logger(true))
		},
	}
	c.Flags().IntVar(&tenants, "tenants", 2, "how many demo tenants")
	c.Flags().StringVar(&e.cfg.DataDir, "data-dir", e.cfg.DataDir, "where it keeps its data (FREEHOLD_DATA_DIR)")
	e.doorFlags(c)
	return c
}

func (e *env) serveCmd() *cobra.Command {
	var noWorker bool
	c := &cobra.Command{
		Use:   "serve",
		Short: "Serve the tenants' API and the operators' API, with workers",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return app.Serve(c.Context(), e.cfg, e.version, !noWorker, e.logger(), nil)
		},
	}
	c.Flags().BoolVar(&noWorker, "no-worker", false, "serve only; run workers elsewhere with freehold worker")
	c.Flags().StringVar(&e.cfg.Drain, "drain", e.cfg.Drain,
		"after SIGTERM, longest `time` for requests and streams that are under way to end, from 0s to 10m (FREEHOLD_DRAIN)")
	c.Flags().StringVar(&e.cfg.AdminTokenFile, "admin-token-file", e.cfg.AdminTokenFile, "file that holds the operators' token (FREEHOLD_ADMIN_TOKEN_FILE)")
	e.doorFlags(c)
	return c
}

func (e *env) workerCmd() *cobra.Command {
	return &cobra.Command{
		Use:   "worker",
		Short: "Run the workers alone",
		Args:  usageArgs(cobra.NoArgs),
		RunE:  func(c *cobra.Command, _ []string) error { return app.Work(c.Context(), e.cfg, e.version, e.logger()) },
	}
}

func (e *env) doorFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&e.cfg.Listen, "listen", e.cfg.Listen, "the tenants' API (FREEHOLD_LISTEN)")
	f.StringVar(&e.cfg.AdminListen, "admin-listen", e.cfg.AdminListen, "the operators' API (FREEHOLD_ADMIN_LISTEN)")
	f.StringVar(&e.cfg.TLSCert, "tls-cert", e.cfg.TLSCert, "certificate chain, PEM (FREEHOLD_TLS_CERT)")
	f.StringVar(&e.cfg.TLSKey, "tls-key", e.cfg.TLSKey, "its private key, PEM (FREEHOLD_TLS_KEY)")
	for _, s := range e.cfg.Routing.Settings() {
		f.StringVar(s.Value, s.Flag, *s.Value, s.Usage+" ("+s.Env+")")
	}
}

// quiet is the configuration of a command whose output is what a person should
// see: warnings alone, unless another level was asked for.
func (e *env) quiet() app.Config {
	cfg := e.cfg
	if !e.levelSet {
		cfg.LogLevel = "warn"
	}
	return cfg
}

// logger of a long-running process: text at a terminal, JSON for a collector.
func (e *env) logger() *slog.Logger { return e.cfg.Logger(term.IsTerminal(int(os.Stderr.Fd()))) }

func (e *env) versionCmd() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: usageArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			return e.show(map[string]string{"version": e.version}, table{rows: [][]string{{"freehold " + e.version}}})
		},
	}
}
