package cli

import (
	"context"

	"github.com/spf13/cobra"

	"freehold/catalog"
	"freehold/cmd/freehold/app"
)

func (e *env) tokenCmd() *cobra.Command {
	return group("token", "Operators' own tokens, for the operators' API", e.tokenCreate(), e.tokenList(), e.tokenRotate(), e.tokenRevoke())
}

func (e *env) tokenCreate() *cobra.Command {
	var (
		role    string
		expires span
	)
	c := &cobra.Command{
		Use: "create NAME", Short: "Give an operator a token; it is shown once", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Give an operator a token; it is shown once.

A viewer looks and changes nothing, an operator does all but operators' tokens, an
owner does all. The token in FREEHOLD_ADMIN_TOKEN_FILE of a node is an owner's, and
holds also while the catalog is away.`,
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			o, token, err := p.Catalog.CreateOperator(ctx, args[0], role, expires.fromNow())
			if err != nil {
				return named("operator", args[0], err)
			}
			// The token stands: it is shown also when what was done can't be written down.
			shown := e.showToken(o, token)
			if err := audit(ctx, p, "token.create", catalog.TenantID{}, map[string]any{"operator": o.Name, "role": o.Role, "id": o.ID}); err != nil {
				return err
			}
			return shown
		}),
	}
	f := c.Flags()
	f.StringVar(&role, "role", catalog.RoleViewer, "owner, operator or viewer")
	f.Var(&expires, "expires-in", "for how long it holds, as 12h or 30d (default: for good)")
	return c
}

func (e *env) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List operators, revoked and expired ones too", Args: usageArgs(cobra.NoArgs),
		RunE: e.with(func(ctx context.Context, p *app.Platform, _ []string) error {
			list, err := p.Catalog.Operators(ctx)
			if err != nil {
				return err
			}
			tab := table{head: []string{"name", "role", "id", "created", "rotated", "expires", "revoked"}}
			for _, o := range list {
				tab.add(o.Name, o.Role, o.ID, moment(o.CreatedAt), momentOr(o.RotatedAt, "never"), momentOr(o.ExpiresAt, "never"), momentOr(o.RevokedAt, "no"))
			}
			return e.show(list, tab)
		}),
	}
}

func (e *env) tokenRotate() *cobra.Command {
	return &cobra.Command{
		Use: "rotate NAME", Short: "Replace an operator's token; the new one is shown once, the old one holds no longer", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			o, token, err := p.Catalog.RotateOperator(ctx, args[0])
			if err != nil {
				return named("operator", args[0], err)
			}
			shown := e.showToken(o, token)
			if err := audit(ctx, p, "token.rotate", catalog.TenantID{}, map[string]any{"operator": o.Name, "id": o.ID}); err != nil {
				return err
			}
			return shown
		}),
	}
}

func (e *env) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke NAME", Short: "End an operator's token, on every node at once", Args: usageArgs(cobra.ExactArgs(1)),
		RunE: e.with(func(ctx context.Context, p *app.Platform, args []string) error {
			o, err := p.Catalog.RevokeOperator(ctx, args[0])
			if err != nil {
				return named("operator", args[0], err)
			}
			if err := audit(ctx, p, "token.revoke", catalog.TenantID{}, map[string]any{"operator": o.Name}); err != nil {
				return err
			}
			return e.show(o, table{rows: [][]string{{"revoked " + o.Name}}})
		}),
	}
}

func (e *env) showToken(o catalog.Operator, token string) error {
	return e.show(map[string]any{"operator": o, "token": token}, table{rows: [][]string{
		{"operator", o.Name}, {"role", o.Role}, {"expires", momentOr(o.ExpiresAt, "never")}, {"token", token + "  (shown once)"},
	}})
}
