package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) auditCmd() *cobra.Command {
	return group("audit", "What operators did, in a chain of hashes", e.auditVerify(), e.auditExport())
}

// errTampered is returned when the chain is broken; the report says where.
var errTampered = errors.New("the audit was tampered with")

func (e *env) auditVerify() *cobra.Command {
	var (
		operator bool
		file     string
	)
	c := &cobra.Command{
		Use: "verify --operator | --file FILE", Short: "Look for rows that were changed, removed or inserted", Args: usageArgs(cobra.NoArgs),
		Long: `Look for rows that were changed, removed or inserted: in the catalog with --operator,
without it in a file that audit export wrote (- for standard input).

A chain can't tell that its last rows are missing. Note the head that this prints:
an export made later holds it.`,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case operator == (file != ""):
				return fmt.Errorf("%w: give --operator or --file FILE", errUsage)
			case file != "":
				return e.verifyFile(file)
			}
			return e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
				check, err := p.Catalog.VerifyAudit(ctx)
				if err != nil {
					return err
				}
				return e.showCheck(check)
			})(c, args)
		},
	}
	c.Flags().BoolVar(&operator, "operator", false, "what operators did, in the catalog")
	c.Flags().StringVar(&file, "file", "", "an export, without any catalog")
	return c
}

func (e *env) verifyFile(name string) error {
	in := e.stdin
	if name != "-" {
		file, err := os.Open(filepath.Clean(name))
		if err != nil {
			return fmt.Errorf("verify audit: %w", err)
		}
		defer file.Close()
		in = file
	}
	check, err := catalog.VerifyAuditFile(in)
	if err != nil {
		return err
	}
	return e.showCheck(check)
}

func (e *env) showCheck(check catalog.AuditCheck) error {
	t := table{rows: [][]string{{"rows", strconv.FormatInt(check.Rows, 10)}, {"last", strconv.FormatInt(check.Seq, 10)}, {"head", check.Head}}}
	if !check.OK {
		t.add("bad row", strconv.FormatInt(check.BadSeq, 10))
		t.add("why", check.Why)
	}
	err := e.show(check, t)
	if !check.OK {
		err = errors.Join(err, errTampered)
	}
	return err
}

func (e *env) auditExport() *cobra.Command {
	var operator bool
	c := &cobra.Command{
		Use: "export --operator > FILE", Short: "Write every row, with the text that was hashed, as lines of JSON", Args: usageArgs(cobra.NoArgs),
		RunE: func(c *cobra.Command, args []string) error {
			if !operator {
				return fmt.Errorf("%w: give --operator", errUsage)
			}
			return e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
				out := bufio.NewWriter(e.out)
				rows, err := p.Catalog.ExportAudit(ctx, out)
				if err = errors.Join(err, out.Flush()); err != nil {
					return err
				}
				// Who took a copy is something that an operator did.
				return audit(ctx, p, "audit.export", catalog.TenantID{}, map[string]any{"rows": rows})
			})(c, args)
		},
	}
	c.Flags().BoolVar(&operator, "operator", false, "what operators did, in the catalog")
	return c
}
