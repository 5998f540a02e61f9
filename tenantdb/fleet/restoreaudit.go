package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"freehold/tenantdb"
)

// AuditRestore is a restore of a tenant's database, as the tenant's audit tells it.
type AuditRestore struct {
	At        time.Time `json:"at"`
	By        string    `json:"by"` // operator:<name>
	Operation string    `json:"operation"`
	Backup    string    `json:"backup,omitempty"`      // its id; empty: what was there before a restore came back
	MadeAt    time.Time `json:"made_at"`               // the backup's moment, or that of the restore taken back
	From      string    `json:"from_tenant,omitempty"` // whose backup it was, when another's
	Lost      bool      `json:"lost,omitempty"`        // the database before could not be read any more
	Reverted  bool      `json:"reverted,omitempty"`    // an earlier restore was taken back
}

func (r AuditRestore) String() string {
	who, at, of := r.By, r.At.UTC().Format(time.RFC3339), r.MadeAt.UTC().Format(time.RFC3339)
	switch {
	case r.Reverted:
		return fmt.Sprintf("back to what it was before the restore of %s, by %s at %s", of, who, at)
	case r.From != "":
		return fmt.Sprintf("by %s at %s from the backup of %s, of tenant %s", who, at, of, r.From)
	case r.Lost:
		return fmt.Sprintf("by %s at %s from the backup of %s; what was there could not be read any more", who, at, of)
	}
	return fmt.Sprintf("by %s at %s from the backup of %s", who, at, of)
}

// maxRestores bounds how many are told.
const maxRestores = 100

// toldRestores reads them, the newest first.
func toldRestores(ctx context.Context, db *tenantdb.DB) ([]AuditRestore, error) {
	rows, err := db.AuditRows(ctx, ActionRestored, uuid.Nil, maxRestores)
	if err != nil {
		return nil, err
	}
	var list []AuditRestore
	for _, row := range rows {
		if row.OperatorSeq != nil { // what the catalog tells: the tenant's own row stands beside it
			continue
		}
		var r AuditRestore
		if json.Unmarshal(row.Detail, &r) != nil {
			continue // nobody of ours wrote it
		}
		r.At, r.By = row.At, row.Actor
		list = append(list, r)
	}
	return list, nil
}

const insertRestored = `
insert into freehold.audit_log (id, at, actor, action, subject, detail) values ($1, now(), $2, $3, $4, $5)`

// tellRestore tells the tenant's audit who restored it, and from what.
func tellRestore(ctx context.Context, tx pgx.Tx, what restoration, done carried) error {
	text, err := json.Marshal(struct {
		restoration

		Carried carried `json:"carried"`
	}{what, done})
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, insertRestored, uuid.Must(uuid.NewV7()), auditActor(what.actor), ActionRestored, what.subject(), json.RawMessage(text))
	return err
}
