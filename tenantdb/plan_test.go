package tenantdb_test

import (
	"testing"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

// A column's type changes under a connection that has the statement prepared: the
// borrower doesn't notice.
func TestSend_PlansFromBeforeADDLAreMadeAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	id := uuid.Must(uuid.NewV7())
	a := admission()
	a.ID, a.RequestID = id, "r"
	b.ok(b.admit(b.db, a))
	read := func() {
		t.Helper()
		p, err := b.db.Prediction(t.Context(), id)
		b.ok(err)
		if p.ID != id || p.RequestID != "r" {
			t.Errorf("read %+v", p)
		}
	}
	read()
	read() // with the plan that the first one left
	for _, ddl := range []string{
		`alter table freehold.predictions alter column request_id type varchar(400)`,
		`alter table freehold.predictions alter column request_id type text`,
	} {
		_, err := b.owner.Exec(t.Context(), ddl)
		b.ok(err)
		read()
		b.settle(tenantdb.Settlement{ID: id, State: "succeeded"})
	}
}
