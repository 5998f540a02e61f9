package catalog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Access is what let somebody in, or was still owed to a tenant.
type Access struct{ Keys, Configurations, Mails int64 }

const (
	countAccess = `
select (select count(*) from api_keys where tenant = $1), (select count(*) from tenant_config where tenant = $1),
       (select count(*) from mail_outbox where tenant = $1)`

	deleteTenantKeys   = `delete from api_keys where tenant = $1`
	deleteTenantConfig = `delete from tenant_config where tenant = $1`
	deleteTenantMail   = `delete from mail_outbox where tenant = $1`
)

// Access counts a tenant's keys, configurations and mails, sent ones too.
func (c *Catalog) Access(ctx context.Context, id TenantID) (a Access, err error) {
	err = c.writer.QueryRow(ctx, countAccess, id).Scan(&a.Keys, &a.Configurations, &a.Mails)
	return a, wrap("count keys", err)
}

// EraseAccess deletes a tenant's keys, configuration and mail, sent ones too since
// they hold its address. The tenant must be deleting: ErrConflict.
func (c *Catalog) EraseAccess(ctx context.Context, id TenantID) error {
	return c.erase(ctx, "erase keys", id, deleteTenantKeys, deleteTenantConfig, deleteTenantMail)
}

const (
	// The slug stays, for the bill and for who reads the audit.
	blankTenant = `
update tenants
   set name = '', email = '', labels = '{}', pin = '{}', request_key = null, request_hash = null,
       secret = '', secret_key_id = 0
 where id = $1`
	// What other operations were asked to do names who they did it for.
	blankOperations = `
update operations set args = '{}' where tenant = $1 and kind <> 'delete'`
	deleteFindingsOf = `delete from findings where tenant = $1`
	deleteHeadOf     = `delete from audit_heads where tenant = $1`
	deleteWorkOf     = `delete from work_queue where tenant = $1`
	deleteTurnOf     = `delete from work_turns where tenant = $1`

	selectBlank = `
select t.name = '' and t.email = '' and t.labels = '{}' and t.pin = '{}' and t.request_key is null
       and t.request_hash is null and t.secret = '' and not exists (select from operations o where o.tenant = t.id and o.kind <> 'delete' and o.args <> '{}')
       and not exists (select from audit_heads h where h.tenant = t.id)
       and not exists (select from work_queue w where w.tenant = t.id)
       and not exists (select from work_turns w where w.tenant = t.id)
  from tenants t where t.id = $1`
)

// ErasePerson blanks what the catalog knows of a tenant: its sealed secret, name,
// address, labels, the arguments of its operations, the head of its audit, and what
// work it has asked for. The tenant must be deleting: ErrConflict.
func (c *Catalog) ErasePerson(ctx context.Context, id TenantID) error {
	return c.erase(ctx, "erase tenant", id, blankTenant, blankOperations, deleteFindingsOf, deleteHeadOf, deleteWorkOf, deleteTurnOf)
}

// Erased reports whether ErasePerson has done its work.
func (c *Catalog) Erased(ctx context.Context, id TenantID) (bool, error) {
	var blank bool
	err := c.writer.QueryRow(ctx, selectBlank, id).Scan(&blank)
	return blank, wrap("read tenant", err)
}

func (c *Catalog) erase(ctx context.Context, op string, id TenantID, statements ...string) error {
	_, err := c.changeTenant(ctx, op, id, func(tx pgx.Tx, state State) (bool, error) {
		if state != Deleting {
			return false, fmt.Errorf("%s: tenant is %s: %w", op, state, ErrConflict)
		}
		for _, sql := range statements {
			if _, err := tx.Exec(ctx, sql, id); err != nil {
				return false, err
			}
		}
		return true, nil
	})
	return err
}
