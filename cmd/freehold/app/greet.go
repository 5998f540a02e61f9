package app

import (
	"fmt"
	"time"
)

// greet tells a person what runs where, and three lines to paste.
func (d *dev) greet(tenants int, took time.Duration) {
	more := ""
	if tenants > keyedTenants {
		more = fmt.Sprintf(", and %d more: freehold tenant list", tenants-keyedTenants)
	}
	fmt.Fprintf(d.out, `
Freehold is ready (%.1f s). Ctrl-C stops everything; data survives in %s.

  tenants' API    %s/v1      tenants acme and globex%s
  operators' API  %s/admin/v1
  Postgres %-6s 127.0.0.1:%d, a database for each tenant
  object store    %s
  model           freehold-answer-1: small and built in, it answers from the context that you give it

In a second terminal, in this folder:

  . %s; export PATH="$PWD/bin:$PATH"

  curl -s $FREEHOLD_URL/v1/chat/completions -H "Authorization: Bearer $ACME_API_KEY" -H 'Content-Type: application/json' -d '{"model":"freehold-answer-1","messages":[{"role":"system","content":"Our warehouse stands in Rotterdam. Gift cards never expire."},{"role":"user","content":"Does a gift card run out?"}]}'
  curl -s $FREEHOLD_URL/v1/predictions -H "Authorization: Bearer $ACME_API_KEY"
  curl -s $FREEHOLD_URL/v1/models -H "Authorization: Bearer $GLOBEX_API_KEY"

`, took.Seconds(), relative(d.cfg.DataDir), d.scheme()+d.cfg.Listen, more, d.scheme()+d.cfg.AdminListen,
		d.pg.Binaries().Version, d.pg.Port(), d.cfg.S3Endpoint, relative(d.path(devEnvFile)))
}
