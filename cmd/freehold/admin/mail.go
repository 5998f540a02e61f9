package admin

import (
	"context"

	"freehold/catalog"
	"freehold/cmd/freehold/rest"
)

var mailFilters = append([]rest.Query{
	{Name: "state", Type: "string", Summary: "Only mail in this state: waiting, sent, given_up or cancelled."},
	{Name: "kind", Type: "string", Summary: "Only mail of this kind."},
	{Name: "tenant", Type: "string", Summary: "Only this tenant's mail."},
}, rest.Paging...)

func (s *server) mail(ctx context.Context, _ operator, r *rest.Request) (page rest.List[catalog.Mail], err error) {
	limit, after, err := r.Page(100, 1000)
	if err != nil {
		return page, err
	}
	// One more than asked for tells whether there are more.
	list, err := s.catalog.OutboxMail(ctx, catalog.MailFilter{
		State: r.Query("state"), Kind: r.Query("kind"), Tenant: r.Query("tenant"), After: after, Limit: limit + 1,
	})
	if err != nil {
		return page, err
	}
	return rest.Page(list, limit, func(m catalog.Mail) string { return m.ID }), nil
}

func (s *server) retryMail(ctx context.Context, who operator, r *rest.Request) (catalog.Mail, error) {
	m, err := s.catalog.RetryMail(ctx, r.Param("id"))
	if err != nil {
		return catalog.Mail{}, err
	}
	s.audit(ctx, who, r, "mail.retry", m.TenantID, map[string]any{"mail": m.ID, "kind": m.Kind})
	return m, nil
}
