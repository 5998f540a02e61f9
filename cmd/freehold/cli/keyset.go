package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) keysetCmd() *cobra.Command {
	return group("keyset", "The master key", e.keysetRotate())
}

func (e *env) keysetRotate() *cobra.Command {
	var o catalog.RotateOptions
	c := &cobra.Command{
		Use: "rotate", Short: "Replace the master key and seal everything anew, while requests run", Args: usageArgs(cobra.NoArgs),
		Long: `Replace the master key and seal everything anew, while requests run.

A new key comes into the file of --master-key-file. Nodes and workers that read the
same file learn it by themselves; to those on other machines the file has to be
copied, and this command says to which, ends with status 3, and goes on where it was
when it is run again: once until they know the new key, and once until they seal
with it. So it does when it was killed. Old keys stay in the file: old backups are
sealed with them. Keep a copy of the new file elsewhere.`,
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			if o.Wait <= 0 {
				return fmt.Errorf("%w: --wait is more than nothing", errUsage)
			}
			b := e.bar()
			o.Progress = func(done, total int) { b.draw("resealing", done, total) }
			r, err := p.Catalog.RotateKeyset(ctx, actor(), o)
			b.end()
			if r.Unreadable == nil {
				r.Unreadable = []string{}
			}
			if behind, ok := errors.AsType[*catalog.NodesBehind](err); ok {
				return errors.Join(e.showRotation(r), fmt.Errorf("%w: %w: copy %s to them and run this again",
					fleet.ErrPartial, behind, e.cfg.MasterKeyFile))
			}
			if err != nil {
				return err
			}
			if err := e.showRotation(r); err != nil {
				return err
			}
			if len(r.Unreadable) > 0 {
				return fmt.Errorf("%w: no key opens the secret of %s", fleet.ErrPartial, strings.Join(r.Unreadable, ", "))
			}
			sayTo(e.err, "keep a copy of %s elsewhere: without it no sealed secret can be read", e.cfg.MasterKeyFile)
			return nil
		}),
	}
	c.Flags().DurationVar(&o.Wait, "wait", 30*time.Second, "how long to wait for nodes to read the file")
	return c
}

func (e *env) showRotation(r catalog.Rotation) error {
	return e.show(r, table{rows: [][]string{
		{"old key", strconv.FormatInt(r.Old, 10)}, {"new key", strconv.FormatInt(r.New, 10)}, {"resealed", strconv.Itoa(r.Resealed)},
	}})
}
