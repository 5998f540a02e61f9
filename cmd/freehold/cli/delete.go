package cli

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) tenantDelete() *cobra.Command {
	o, grace, yes := fleet.DeleteOptions{}, span(fleet.DefaultGrace), false
	c := &cobra.Command{
		Use: "delete SLUG", Short: "Stop serving a tenant now, and destroy all of it when its grace is over", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Stop serving a tenant now, and destroy all of it when its grace is over.

Until then "tenant undelete" takes it back. After it, database, role, objects,
backups, keys and secrets are gone, and "tenant receipt" says so. Again, with a
shorter --grace, it brings that moment forward. With --now there is no grace.`,
		Example: "  freehold tenant delete acme --grace 3d",
		RunE: func(c *cobra.Command, args []string) error {
			if o.Now && c.Flags().Changed("grace") {
				return fmt.Errorf("%w: --grace or --now, not both", errUsage)
			}
			o.Grace = time.Duration(grace)
			need := app.NeedCatalog
			if o.Now {
				need |= app.NeedS3
			}
			p, err := e.open(c, need)
			if err != nil {
				return err
			}
			defer p.Close()
			o.Actor = actor()
			return e.deleteTenant(c.Context(), p, args[0], o, yes)
		},
	}
	c.Flags().Var(&grace, "grace", "how long it can be taken back: 90m, 12h, 30d; none is said as --now, which asks")
	c.Flags().BoolVar(&o.Now, "now", false, "destroy it here and now; asks for the slug once more")
	c.Flags().BoolVar(&yes, "yes", false, "don't ask")
	return c
}

func (e *env) deleteTenant(ctx context.Context, p *app.Platform, slug string, o fleet.DeleteOptions, yes bool) error {
	t, err := tenant(ctx, p, slug)
	if err != nil {
		return err
	}
	if o.Now && !yes {
		if err := e.confirm(t.Slug); err != nil {
			return err
		}
	}
	op, err := p.Fleet.Delete(ctx, t.ID, o)
	if stands(err) {
		detail := map[string]any{"slug": t.Slug, "operation": op.ID, "run_at": op.RunAt.UTC()}
		err = errors.Join(err, audit(ctx, p, "tenant.delete", t.ID, detail))
	}
	if err != nil {
		return named("tenant", t.Slug, again(err))
	}
	if o.Now {
		if op, err = e.finish(ctx, p, op); err != nil {
			return named("tenant", t.Slug, fmt.Errorf("%w: freehold operation show %s", err, op.ID))
		}
	}
	if e.output == "json" {
		return e.json(op)
	}
	if op.State == catalog.OperationDone {
		e.say("%s is deleted: freehold tenant receipt %s", t.Slug, t.ID)
		return nil
	}
	e.say("%s is served no more, and destroyed at %s UTC: freehold operation show %s", t.Slug, moment(op.RunAt), op.ID)
	if time.Until(op.RunAt) > 0 {
		e.say("until then: freehold tenant undelete %s", t.Slug)
	}
	return nil
}

// confirm wants the slug once more, of somebody who can read what is asked.
func (e *env) confirm(slug string) error {
	return e.typed(fmt.Sprintf("This destroys %s: database, objects, backups, keys. Nothing brings it back.\n", slug), slug)
}

// typed wants a tenant's slug once more, of somebody who has read what will be.
func (e *env) typed(what, slug string) error {
	_, _ = fmt.Fprintf(e.err, "%sType its slug to go on: ", what)
	line, err := bufio.NewReader(io.LimitReader(e.stdin, 1<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if !strings.HasSuffix(line, "\n") {
		sayTo(e.err, "") // nobody typed: what follows begins a line
	}
	if strings.TrimSpace(line) != slug {
		return errors.New("that is not its slug: nothing was done (scripts say --yes)")
	}
	return nil
}

// finish does an operation here, or watches the worker that was quicker.
func (e *env) finish(ctx context.Context, p *app.Platform, op catalog.Operation) (catalog.Operation, error) {
	// A conflict: a worker has it, or has done it.
	if err := p.Fleet.Do(ctx, op.ID); err != nil && !errors.Is(err, catalog.ErrConflict) {
		return op, err
	}
	now, err := e.follow(ctx, p, op)
	if err == nil && now.State != catalog.OperationDone {
		err = fmt.Errorf("the operation is %s: %s", now.State, now.Error)
	}
	return now, err
}

func (e *env) tenantUndelete() *cobra.Command {
	return &cobra.Command{
		Use: "undelete SLUG", Short: "Take a deletion back within its grace; the tenant is suspended then", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			t, err := tenant(ctx, p, args[0])
			if err != nil {
				return err
			}
			if err := p.Fleet.Undelete(ctx, t.ID); err != nil {
				return named("tenant", t.Slug, hinted(t, err))
			}
			if err := audit(ctx, p, "tenant.undelete", t.ID, map[string]any{"slug": t.Slug}); err != nil {
				return err
			}
			if t, err = p.Catalog.Tenant(ctx, t.ID); err != nil {
				return err
			}
			if e.output == "json" {
				return e.json(t)
			}
			e.say("%s is %s: freehold tenant resume %[1]s", t.Slug, t.State)
			return nil
		}),
	}
}

func (e *env) tenantReceipt() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use: "receipt SLUG|ID", Short: "Show what a deletion destroyed and what it couldn't reach, or verify such a receipt",
		Long: `Show what a deletion destroyed and what it couldn't reach.

With -o json it is signed: who has that file can verify it with --verify, and
with the master key at hand also learns whether this platform signed it.`,
		Example: "  freehold tenant receipt acme -o json > acme.receipt\n  freehold tenant receipt --verify acme.receipt",
		Args: func(c *cobra.Command, args []string) error {
			if file != "" && len(args) > 0 {
				return fmt.Errorf("%w: give --verify FILE, or whose receipt to show", errUsage)
			}
			if file != "" {
				return nil
			}
			return usageArgs(cobra.ExactArgs(1))(c, args)
		},
		RunE: func(c *cobra.Command, args []string) error {
			if file != "" {
				return e.verifyReceipt(file)
			}
			return e.with(func(ctx context.Context, p *app.Platform, args []string) error {
				signed, r, err := p.Fleet.Receipt(ctx, args[0])
				if err != nil {
					return named("receipt of", args[0], err)
				}
				if e.output == "json" {
					return e.json(signed)
				}
				return e.showReceipt(r)
			})(c, args)
		},
	}
	c.Flags().StringVar(&file, "verify", "", "verify the receipt in this file (-: standard input)")
	return c
}

func (e *env) showReceipt(r fleet.Receipt) error {
	err := e.show(nil, table{rows: [][]string{
		{"tenant", r.Slug}, {"id", r.Tenant}, {"server", r.Server}, {"asked for by", r.RequestedBy},
		{"asked for", moment(r.RequestedAt)}, {"deleted", moment(r.DeletedAt)}, {"bucket versioning", r.BucketVersioning},
		{"signed with", fmt.Sprintf("master key %d, public key %s", r.KeyID, base64.StdEncoding.EncodeToString(r.PublicKey))},
	}})
	if err != nil {
		return err
	}
	gone := table{head: []string{"destroyed", "name", "count", "bytes", "verified"}}
	for _, d := range r.Destroyed {
		gone.add(d.What, d.Name, strconv.FormatInt(d.Count, 10), strconv.FormatInt(d.Bytes, 10), moment(d.VerifiedAt))
	}
	left := table{head: []string{"beyond reach", "why", "until"}}
	for _, w := range r.BeyondReach {
		left.add(w.What, w.Why, momentOr(w.Until, "-"))
	}
	bill := table{head: []string{"month", "model", "requests", "prompt tokens", "completion tokens"}}
	for _, l := range r.Bill {
		bill.add(l.Month, l.Model, strconv.FormatInt(l.Requests, 10), strconv.FormatInt(l.PromptTokens, 10), strconv.FormatInt(l.CompletionTokens, 10))
	}
	for _, t := range []table{gone, left, bill} {
		e.say("")
		if err := e.show(nil, t); err != nil {
			return err
		}
	}
	return nil
}

// maxReceipt bounds what is read of a file that may be anything.
const maxReceipt = 16 << 20

// verified is what --verify answers.
type verified struct {
	Tenant string `json:"tenant"`
	Slug   string `json:"slug"`
	OK     bool   `json:"ok"`
	Ours   *bool  `json:"ours"` // nil: no master key at hand that could tell
}

func (e *env) verifyReceipt(file string) error {
	in := e.stdin
	if file != "-" {
		f, err := os.Open(filepath.Clean(file))
		if err != nil {
			return fmt.Errorf("verify receipt: %w", err)
		}
		defer f.Close()
		in = f
	}
	var signed struct {
		Document  string
		Signature []byte
		Public    ed25519.PublicKey `json:"public_key"`
		KeyID     int64             `json:"key_id"`
	}
	if err := json.NewDecoder(io.LimitReader(in, maxReceipt)).Decode(&signed); err != nil || signed.Document == "" {
		return fmt.Errorf("verify receipt: %s is no signed receipt (tenant receipt -o json makes one)", file)
	}
	r, err := fleet.VerifyReceipt([]byte(signed.Document), signed.Signature, signed.Public)
	if err != nil {
		return err
	}
	v := verified{Tenant: r.Tenant, Slug: r.Slug, OK: true}
	if keys, err := catalog.ReadKeyset(e.cfg.MasterKeyFile); err == nil {
		public, err := keys.PublicKey(signed.KeyID)
		ours := err == nil && public.Equal(signed.Public)
		v.Ours = &ours
	}
	if e.output == "json" {
		if err := e.json(v); err != nil {
			return err
		}
	}
	e.say("receipt of %s (%s), deleted %s UTC: as it was signed", r.Slug, r.Tenant, moment(r.DeletedAt))
	switch {
	case v.Ours == nil:
		e.say("by whoever has the private key of %s: compare that with what the platform publishes", base64.StdEncoding.EncodeToString(signed.Public))
	case *v.Ours:
		e.say("by this platform: master key %d", signed.KeyID)
	default:
		return fmt.Errorf("verify receipt: %w: it was signed by another platform's key", catalog.ErrSignature)
	}
	return nil
}
