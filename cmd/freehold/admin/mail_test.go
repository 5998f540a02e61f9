package admin_test

import (
	"strings"
	"testing"

	"freehold/catalog"
)

type mailRow struct {
	ID, Tenant, Kind, Recipient, State, Error string
	Attempts                                  int
}

func TestMail(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.client
	for _, slug := range []string{"acme", "globex"} {
		c.Do("POST", "/admin/v1/tenants", `{"slug":"`+slug+`","email":"`+slug+`@example.com"}`).Into(201, new(map[string]any))
	}
	b.Tenant("silent") // has no address
	var page list[mailRow]
	c.Do("GET", "/admin/v1/mail", "").Into(200, &page)
	if len(page.Data) != 2 || page.HasMore || page.Data[0].Tenant != "globex" || page.Data[0].Kind != "welcome" ||
		page.Data[1].Recipient != "acme@example.com" || page.Data[1].State != "waiting" {
		t.Fatalf("owed: %+v", page)
	}
	globex, acme := page.Data[0].ID, page.Data[1].ID
	_, err := b.Catalog.MailFailed(t.Context(), acme, "refused for good: name the recipient: reply 550 5.1.1", true)
	b.OK(err)
	b.OK(b.Catalog.MailSent(t.Context(), globex))
	for query, want := range map[string]string{
		"?state=given_up": acme, "?state=sent": globex, "?tenant=acme": acme, "?kind=bill": "", "?after=" + globex: acme, "?state=waiting": "",
	} {
		page = list[mailRow]{}
		c.Do("GET", "/admin/v1/mail"+query, "").Into(200, &page)
		var ids []string
		for _, m := range page.Data {
			ids = append(ids, m.ID)
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	page = list[mailRow]{}
	c.Do("GET", "/admin/v1/mail?limit=1", "").Into(200, &page)
	if len(page.Data) != 1 || !page.HasMore {
		t.Errorf("page: %+v", page)
	}
	c.Do("GET", "/admin/v1/mail?state=happy", "").Refused(400, "invalid_request", "state")
	c.Do("GET", "/admin/v1/mail?after=x", "").Refused(400, "invalid_request", "after")

	var again mailRow
	c.Do("POST", "/admin/v1/mail/"+acme+"/retry", "").Into(200, &again)
	if again.ID != acme || again.State != "waiting" || again.Error != "" || again.Attempts != 0 {
		t.Errorf("retried: %+v", again)
	}
	c.Do("POST", "/admin/v1/mail/"+globex+"/retry", "").Refused(409, "conflict", "")
	for _, id := range []string{"x", catalog.NewTenantID().String()} {
		c.Do("POST", "/admin/v1/mail/"+id+"/retry", "").Refused(404, "not_found", "")
	}
	if detail := b.audited("tenant.create", "tenant.create", "mail.retry"); !strings.Contains(detail, acme) || strings.Contains(detail, "@") {
		t.Errorf("audited %s", detail)
	}
}
