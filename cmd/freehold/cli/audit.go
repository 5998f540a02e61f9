package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
	"freehold/tenantdb/fleet"
)

func (e *env) auditCmd() *cobra.Command {
	return group("audit", "What tenants and operators did, in chains of hashes", e.auditVerify(), e.auditExport())
}

// errTampered is returned when the chain is broken; the report says where.
var errTampered = errors.New("the audit was tampered with")

// auditChoice says which audit is meant.
type auditChoice struct {
	slug     string
	operator bool
	file     string
	keys     []string
	look     fleet.AuditLook
}

// check wants exactly one of the three, and of the flags those that go with it.
func (a *auditChoice) check(args []string) error {
	if len(args) == 1 {
		a.slug = args[0]
	}
	chosen := 0
	for _, is := range []bool{a.slug != "", a.operator, a.file != ""} {
		if is {
			chosen++
		}
	}
	switch {
	case chosen != 1:
		return fmt.Errorf("%w: give SLUG, --operator or --file FILE", errUsage)
	case a.slug == "" && a.look != fleet.AuditLook{}:
		return fmt.Errorf("%w: --payloads and --anchor are for a tenant's audit", errUsage)
	case a.file == "" && len(a.keys) > 0:
		return fmt.Errorf("%w: --public-key is for --file", errUsage)
	}
	return nil
}

func (e *env) auditVerify() *cobra.Command {
	var a auditChoice
	c := &cobra.Command{
		Use: "verify SLUG | --operator | --file FILE", Short: "Look for rows that were changed, removed or inserted",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		Long: `Look for rows that were changed, removed or inserted: in a tenant's audit, in what
operators did with --operator, or in a file that audit export wrote (- for standard
input), without any catalog or database.

A tenant's audit is sealed with a key that is in no database, and the catalog notes
where it ends; --anchor compares it with what is noted in the object store too, and
--payloads the predictions that are kept with the hashes of their payloads.

A file is checked with the public keys that it names, which whoever wrote it may have
made: give those that audit verify SLUG printed with --public-key. The operators'
chain isn't signed, and can't tell that its last rows are missing. Note the head that
this prints: an export made later holds it.`,
		Example: "  freehold audit verify acme --payloads --anchor\n  freehold audit verify --file acme.jsonl --public-key keys.txt",
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.check(args); err != nil {
				return err
			}
			switch {
			case a.file != "":
				return e.verifyFile(a)
			case a.operator:
				return e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
					check, err := p.Catalog.VerifyAudit(ctx)
					if err != nil {
						return err
					}
					return e.showCheck(check)
				})(c, args)
			}
			need := app.NeedCatalog
			if a.look.Anchor {
				need |= app.NeedS3
			}
			return e.withAll(need, func(ctx context.Context, p *app.Platform, _ []string) error {
				t, err := tenant(ctx, p, a.slug)
				if err != nil {
					return err
				}
				report, err := p.Fleet.VerifyAudit(ctx, t.ID, a.look)
				if err != nil {
					return err
				}
				return e.showReport(report)
			})(c, args)
		},
	}
	f := c.Flags()
	f.BoolVar(&a.operator, "operator", false, "what operators did, in the catalog")
	f.StringVar(&a.file, "file", "", "an export, without any catalog")
	f.StringArrayVar(&a.keys, "public-key", nil, "with --file: a key that is trusted, in hex, or a file of such")
	f.BoolVar(&a.look.Payloads, "payloads", false, "compare the predictions that are kept too")
	f.BoolVar(&a.look.Anchor, "anchor", false, "compare what the object store has noted too")
	return c
}

func (e *env) showCheck(check catalog.AuditCheck) error {
	t := table{rows: [][]string{{"rows", strconv.FormatInt(check.Rows, 10)}, {"last", strconv.FormatInt(check.Seq, 10)}, {"head", check.Head}}}
	if !check.OK {
		t.add("bad row", strconv.FormatInt(check.BadSeq, 10))
		t.add("why", check.Why)
	}
	return e.verdict(check, t, check.OK)
}

// verdict shows a report, and fails when it says so.
func (e *env) verdict(report any, t table, ok bool) error {
	if ok {
		t.add("verdict", "intact")
	} else {
		t.add("verdict", "broken")
	}
	err := e.show(report, t)
	if !ok {
		err = errors.Join(err, errTampered)
	}
	return err
}

func (e *env) auditExport() *cobra.Command {
	var a auditChoice
	c := &cobra.Command{
		Use: "export SLUG | --operator > FILE", Short: "Write every row, with the text that was hashed, as lines of JSON",
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			if err := a.check(args); err != nil {
				return err
			}
			return e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
				id := catalog.TenantID{}
				write := p.Catalog.ExportAudit
				if !a.operator {
					t, err := tenant(ctx, p, a.slug)
					if err != nil {
						return err
					}
					id = t.ID
					write = func(ctx context.Context, w io.Writer) (int64, error) { return p.Fleet.ExportAudit(ctx, id, w) }
				}
				out := bufio.NewWriter(e.out)
				rows, err := write(ctx, out)
				if err = errors.Join(err, out.Flush()); err != nil {
					return err
				}
				// Who took a copy is something that an operator did.
				return audit(ctx, p, "audit.export", id, map[string]any{"rows": rows})
			})(c, args)
		},
	}
	c.Flags().BoolVar(&a.operator, "operator", false, "what operators did, in the catalog")
	return c
}
