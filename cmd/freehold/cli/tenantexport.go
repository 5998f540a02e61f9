package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) tenantExport() *cobra.Command {
	var to string
	var detach bool
	c := &cobra.Command{
		Use: "export SLUG", Short: "Write all that a tenant has into one archive, for the tenant to take along", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Write all that a tenant has into one archive: its rows, and its product's, as lines of
JSON, the definitions of the product's tables, the bytes of files and models, and a
manifest with the sum of each. Tenants do the same by POST /v1/export.

With --to it is downloaded; without, an address is printed from which anybody can
download it for 15 minutes. After a day it is removed.

The rows are read as of one moment: while a large tenant is exported, its database
clears away nothing that was deleted meanwhile, and migrations of it wait.`,
		Example: "  freehold tenant export acme --to acme.tar.zst",
		RunE: func(c *cobra.Command, args []string) error {
			if to != "" && detach {
				return fmt.Errorf("%w: --to or --detach, not both", errUsage)
			}
			if _, err := os.Lstat(to); to != "" && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%w: --to: %s is there already, or can't be looked at", errUsage, to)
			}
			return e.withAll(app.NeedCatalog|app.NeedS3, func(ctx context.Context, p *app.Platform, args []string) error {
				return e.export(ctx, p, args[0], to, detach)
			})(c, args)
		},
	}
	fl := c.Flags()
	fl.StringVar(&to, "to", "", "download it to this `FILE`, which must not be there yet")
	fl.BoolVar(&detach, "detach", false, "leave the work to a worker and return at once")
	return c
}

// exported is an export with where it is.
type exported struct {
	catalog.Export

	File string `json:"file,omitempty"`
	URL  string `json:"url,omitempty"`
}

func (e *env) export(ctx context.Context, p *app.Platform, slug, to string, detach bool) error {
	t, err := tenant(ctx, p, slug)
	if err != nil {
		return err
	}
	made, err := p.Fleet.BeginExport(ctx, t.ID, fleet.ExportOptions{Actor: "operator:" + actor()}) // tells the audit
	if err != nil {
		return named("tenant", t.Slug, hinted(t, err))
	}
	op, err := p.Catalog.Operation(ctx, made.ID) // an export has its operation's id
	if err != nil {
		return named("export", made.ID, err)
	}
	if detach {
		return e.detached(op)
	}
	if _, err = e.perform(ctx, p, op); err != nil {
		return named("tenant", t.Slug, err)
	}
	got := exported{File: to}
	if got.Export, err = p.Catalog.Export(ctx, t.ID, made.ID); err != nil {
		return named("export", made.ID, err)
	}
	if to != "" {
		err = e.download(ctx, p, got.Export, to)
	} else {
		got.URL, err = p.Fleet.ExportURL(ctx, got.Export)
	}
	if err != nil {
		return named("export", made.ID, err)
	}
	if e.output == "json" {
		return e.json(got)
	}
	e.say("%s is exported: %s of %s, %s, %s", t.Slug, plural(int(got.Rows), "row"), plural(got.Tables, "table"),
		plural(int(got.Files), "object"), bytesOf(got.Bytes))
	if to != "" {
		e.say("%s has it; sha-256 %s", to, got.SHA256)
		return nil
	}
	e.say("until %s UTC it can be downloaded; for %s from here, by whoever has this address:", moment(*got.ExpiresAt), fleet.ExportURLLife)
	e.say("%s", got.URL)
	return nil
}

// download writes an export to a file, which is there whole or not at all.
func (e *env) download(ctx context.Context, p *app.Platform, x catalog.Export, to string) (err error) {
	r, err := p.Fleet.OpenExport(ctx, x)
	if err != nil {
		return err
	}
	defer r.Close()
	part := filepath.Clean(to) + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) // of a tenant: for its owner's eyes
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(part)
		}
	}()
	b := e.bar(progressbar.OptionShowBytes(true))
	defer b.end()
	sum := sha256.New()
	w := &drawing{w: io.MultiWriter(file, sum), b: b, what: "download " + x.Tenant, total: x.Bytes}
	if _, err := io.Copy(w, r); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != x.SHA256 {
		return errors.New("what was downloaded isn't what was exported: download it again")
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	return os.Rename(part, filepath.Clean(to))
}

// drawEvery is how often a bar is drawn anew.
const drawEvery = 100 * time.Millisecond

// drawing is a writer that draws how much was written.
type drawing struct {
	w        io.Writer
	b        *bar
	what     string
	n, total int64
	drawn    time.Time
}

func (d *drawing) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	d.n += int64(n)
	if now := time.Now(); now.Sub(d.drawn) > drawEvery {
		d.drawn = now
		d.b.draw(d.what, int(d.n), int(d.total))
	}
	return n, err
}
