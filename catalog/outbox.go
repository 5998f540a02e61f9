package catalog

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// MailWelcome is the mail of a tenant's first day. Its detail: key, the id of the
// tenant's first API key.
const MailWelcome = "welcome"

// States of a mail. One that waits is tried when it is due; one that was given up
// waits for a person. A deleted tenant's mail that wasn't sent never will be.
const (
	MailWaiting   = "waiting"
	MailSent      = "sent"
	MailGivenUp   = "given_up"
	MailCancelled = "cancelled"
)

// Mail is a mail that is owed, or was. Of what it will say it holds names and
// ids, never a secret.
type Mail struct {
	ID        string          `json:"id"`
	TenantID  TenantID        `json:"tenant_id,omitzero"`
	Slug      string          `json:"tenant"`
	Name      string          `json:"-"` // the tenant's, as it is now
	Kind      string          `json:"kind"`
	Recipient string          `json:"recipient"`
	Detail    json.RawMessage `json:"-"`
	State     string          `json:"state"`
	Attempts  int             `json:"attempts"` // that failed
	Error     string          `json:"error,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	NextAt    time.Time       `json:"next_at"`
	SentAt    *time.Time      `json:"sent_at,omitempty"`
	GivenUpAt *time.Time      `json:"given_up_at,omitempty"`
}

const insertMailRow = `
insert into mail_outbox (id, tenant, kind, recipient, detail) values ($1, $2, $3, $4, $5)
on conflict (tenant, kind) do nothing`

// queueMail owes a tenant a mail, in the transaction that the batch is sent in: once
// for each kind, and not at all when there is no address.
func queueMail(batch *pgx.Batch, id TenantID, kind, recipient string, detail map[string]any) {
	if recipient == "" {
		return
	}
	if detail == nil {
		detail = map[string]any{}
	}
	batch.Queue(insertMailRow, uuid.Must(uuid.NewV7()).String(), id, kind, recipient, detail)
}

// queueWelcome owes a new tenant its first mail, which names its key by id.
func queueWelcome(batch *pgx.Batch, id TenantID, recipient, key string) {
	queueMail(batch, id, MailWelcome, recipient, map[string]any{"key": key})
}

const (
	mailState = `case when m.sent_at is not null then 'sent' when t.state = 'deleted' then 'cancelled'
            when m.given_up_at is not null then 'given_up' else 'waiting' end`

	mailColumns = `m.id::text, m.tenant as tenant_id, coalesce(t.slug, '') as slug, coalesce(t.name, '') as name,
       m.kind, m.recipient, m.detail, ` + mailState + ` as state,
       m.attempts, m.error, m.created_at, m.next_at, m.sent_at, m.given_up_at`

	selectMail = `
select ` + mailColumns + `
  from mail_outbox m left join tenants t on t.id = m.tenant`
)

func (c *Catalog) readMail(ctx context.Context, op, sql string, args ...any) ([]Mail, error) {
	rows, err := c.writer.Query(ctx, sql, args...)
	if err != nil {
		return nil, wrap(op, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByName[Mail])
	return list, wrap(op, err)
}

// MailFilter narrows OutboxMail; zero fields don't filter. Tenant is a slug, After
// the last id of the page before.
type MailFilter struct {
	State, Kind, Tenant, After string
	Limit                      int
}

const filteredMail = selectMail + `
 where ($1 = '' or ` + mailState + ` = $1) and ($2 = '' or m.kind = $2) and ($3 = '' or t.slug = $3)
   and ($4 = '' or m.id < nullif($4, '')::uuid)
 order by m.id desc limit nullif($5, 0)`

// OutboxMail lists mail, newest first, sent ones too.
func (c *Catalog) OutboxMail(ctx context.Context, f MailFilter) ([]Mail, error) {
	errs := []error{
		optional(f.State, oneOf("state", f.State, MailWaiting, MailSent, MailGivenUp, MailCancelled)),
		within("limit", f.Limit, 0, 1<<31-1),
	}
	if _, err := uuid.Parse(f.After); f.After != "" && err != nil {
		errs = append(errs, wrong("after", "not the id of a mail"))
	}
	if err := invalid(errs...); err != nil {
		return nil, fmt.Errorf("list mail: %w", err)
	}
	return c.readMail(ctx, "list mail", filteredMail, f.State, f.Kind, f.Tenant, f.After, f.Limit)
}

const (
	// Whose tenant is being deleted is left alone, and needs nobody.
	mailIsStuck = `m.sent_at is null and (t.state is null or t.state not in ('deleting', 'deleted'))
   and (m.given_up_at is not null or m.attempts > 0 and m.created_at < now() - interval '15 minutes')`

	stuckMail = selectMail + ` where ` + mailIsStuck + ` order by m.id`
)

// StuckMail lists what was given up, and what has failed and is owed for more than
// a quarter of an hour, oldest first.
func (c *Catalog) StuckMail(ctx context.Context) ([]Mail, error) {
	return c.readMail(ctx, "list stuck mail", stuckMail)
}

// What is taken is pushed ahead, so that a killed sender's mail is taken again. A
// tenant that is being deleted is left alone: it may come back, or not.
const takeMail = `
with due as (
    select m.id, t.id as tenant from mail_outbox m left join tenants t on t.id = m.tenant
     where m.sent_at is null and m.given_up_at is null and m.next_at <= now()
       and (t.state is null or t.state not in ('deleting', 'deleted'))
     order by m.next_at, m.id limit $1
       for update of m skip locked),
taken as (
    update mail_outbox m set next_at = now() + interval '2 minutes' from due where m.id = due.id
    returning m.id, m.tenant, m.kind, m.recipient, m.detail, m.attempts, m.error, m.created_at, m.next_at,
              m.sent_at, m.given_up_at)
select ` + mailColumns + `
  from taken m left join tenants t on t.id = m.tenant order by m.id`

// TakeMail takes up to n mails that are due, oldest first, for two minutes: nobody
// else is given them until then. Who takes one says how it went, by MailSent or
// MailFailed.
func (c *Catalog) TakeMail(ctx context.Context, n int) ([]Mail, error) {
	if err := invalid(within("n", n, 1, 1000)); err != nil {
		return nil, fmt.Errorf("take mail: %w", err)
	}
	return c.readMail(ctx, "take mail", takeMail, n)
}

const updateMailSent = `
update mail_outbox set sent_at = now(), given_up_at = null, error = '' where id = $1 and sent_at is null`

// MailSent records that a mail is on its way. Twice is once, and a mail that went
// with its tenant meanwhile is no error.
func (c *Catalog) MailSent(ctx context.Context, id string) error {
	_, err := c.writer.Exec(ctx, updateMailSent, id)
	return wrap("record sent mail", err)
}

const (
	// 30 s, doubled each time up to an hour, give or take a fifth: mail that failed
	// together isn't tried together.
	updateMailFailed = `
update mail_outbox
   set attempts = attempts + 1, error = $2,
       given_up_at = case when $3 or attempts + 1 >= $4 then now() end,
       next_at = now() + least(3600, 30 * power(2, least(attempts, 10))) * (0.8 + 0.4 * random()) * interval '1 second'
 where id = $1 and sent_at is null and given_up_at is null
returning given_up_at is not null as given_up`

	// maxMailAttempts take three days: seven in the first 64 minutes, then hourly.
	// Days in which nobody tried don't count.
	maxMailAttempts = 79

	maxMailError = 500
)

// MailFailed records why a mail could not be sent. It is tried again later; with
// permanent, and after three days of trying, it is given up. The reason is shown
// to operators: it must hold no secret.
func (c *Catalog) MailFailed(ctx context.Context, id, why string, permanent bool) (givenUp bool, err error) {
	why = strings.ReplaceAll(strings.ToValidUTF8(why[:min(len(why), maxMailError)], ""), "\x00", "")
	rows, err := c.writer.Query(ctx, updateMailFailed, id, why, permanent, maxMailAttempts)
	if err != nil {
		return false, wrap("record failed mail", err)
	}
	// None when it was sent, or given up, or went with its tenant meanwhile.
	all, err := pgx.CollectRows(rows, pgx.RowTo[bool])
	return len(all) == 1 && all[0], wrap("record failed mail", err)
}

const updateMailRetry = `
update mail_outbox m set next_at = now(), attempts = 0, error = '', given_up_at = null
 where m.id = $1 and m.sent_at is null
   and not exists (select from tenants t where t.id = m.tenant and t.state = 'deleted')`

// RetryMail has a mail that was given up, or waits for another try, sent now, with
// three more days to go. ErrNotFound; ErrConflict when it was sent, or its tenant
// is deleted.
func (c *Catalog) RetryMail(ctx context.Context, id string) (Mail, error) {
	const op = "retry mail"
	if _, err := uuid.Parse(id); err != nil {
		return Mail{}, fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	tag, err := c.writer.Exec(ctx, updateMailRetry, id)
	if err != nil {
		return Mail{}, wrap(op, err)
	}
	list, err := c.readMail(ctx, op, selectMail+` where m.id = $1`, id)
	switch {
	case err != nil:
		return Mail{}, err
	case len(list) == 0:
		return Mail{}, fmt.Errorf("%s: %w", op, ErrNotFound)
	case tag.RowsAffected() == 0:
		return list[0], fmt.Errorf("%s: it is %s: %w", op, list[0].State, ErrConflict)
	}
	return list[0], nil
}
