package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"slices"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

// Each route's scope is the least role that may use it. Who looks changes
// nothing, so a route that tells secrets or tokens names its scope itself.
const (
	scopeViewer   = catalog.RoleViewer
	scopeOperator = catalog.RoleOperator
	scopeOwner    = catalog.RoleOwner
)

// scopeOf is a route's scope unless it names one.
func scopeOf(method string) string {
	if method == http.MethodGet {
		return scopeViewer
	}
	return scopeOperator
}

// allows reports whether a role is as high as a scope. An unknown one is none.
func allows(role, scope string) bool {
	ranks := []string{scopeViewer, scopeOperator, scopeOwner}
	need := slices.Index(ranks, scope)
	return need >= 0 && slices.Index(ranks, role) >= need
}

// operator is who calls, as the audit names them.
type operator string

// gate lets the holder of the node's own token do everything, also while the
// catalog is away, and everybody with a token of their own what their role may.
func (s *server) gate(ctx context.Context, r *rest.Request, scope string, run func(operator) (*rest.Reply, error)) (*rest.Reply, error) {
	// Both sides are hashed, so that not even the token's length shows.
	given := sha256.Sum256([]byte(r.Token))
	if subtle.ConstantTimeCompare(given[:], s.token[:]) == 1 {
		return run(catalog.HolderName)
	}
	who, err := s.whose(ctx, r.Token)
	if err != nil {
		return nil, err
	}
	if !allows(who.Role, scope) {
		refused := *rest.Describe(rest.ErrScope)
		refused.Message = "This token's role is " + who.Role + "; the route needs " + scope + "."
		return nil, &refused
	}
	return run(operator(who.Name))
}

// lookUps is how many tokens are looked up at a time. Anybody can make up tokens
// that need a look-up, and the catalog's few connections serve tenants too.
const lookUps = 2

func (s *server) whose(ctx context.Context, token string) (catalog.Operator, error) {
	select {
	case s.looks <- struct{}{}:
	case <-ctx.Done():
		return catalog.Operator{}, fmt.Errorf("look operator up: %w", catalog.ErrUnavailable)
	}
	defer func() { <-s.looks }()
	return s.catalog.AuthenticateOperator(ctx, token)
}
