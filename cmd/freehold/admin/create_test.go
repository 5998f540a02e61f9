package admin_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"freehold/catalog"
)

type operation struct {
	ID      string     `json:"id"`
	State   string     `json:"state"`
	EndedAt *time.Time `json:"ended_at"`
	Steps   []struct {
		State  string `json:"state"`
		Millis *int64 `json:"ms"`
	} `json:"steps"`
}

type created struct {
	Tenant struct {
		ID string `json:"id"`
	} `json:"tenant"`
	APIKey    string     `json:"api_key"`
	Operation *operation `json:"operation"`
}

// post creates a tenant, with headers.
func (b *bench) post(body string, headers ...string) (status int, made created, text string) {
	b.Helper()
	a := b.client.Do(http.MethodPost, "/admin/v1/tenants", body, headers...)
	if a.Status < 300 {
		b.OK(json.Unmarshal([]byte(a.Body), &made))
	}
	return a.Status, made, a.Body
}

// The same request again is answered with the tenant that it made, without its key.
func TestCreateTenant_idempotent(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const body = `{"slug":"acme","name":"Acme"}`
	status, first, text := b.post(body, "Idempotency-Key", "one")
	if status != http.StatusCreated || first.APIKey == "" {
		t.Fatalf("%d %s", status, text)
	}
	status, again, text := b.post(body, "Idempotency-Key", "one")
	if status != http.StatusCreated || again.APIKey != "" || again.Tenant.ID != first.Tenant.ID {
		t.Errorf("again: %d %s", status, text)
	}
	if status, _, text = b.post(`{"slug":"other"}`, "Idempotency-Key", "one"); status != http.StatusUnprocessableEntity || !strings.Contains(text, "idempotency_mismatch") {
		t.Errorf("another request: %d %s", status, text)
	}
	if status, _, text = b.post(body, "Idempotency-Key", "two"); status != http.StatusConflict {
		t.Errorf("another key: %d %s", status, text)
	}
	if status, _, text = b.post(body, "Idempotency-Key", strings.Repeat("x", 256)); status != http.StatusBadRequest {
		t.Errorf("too long a key: %d %s", status, text)
	}
}

// A client that won't wait gets the operation, and a key that works once it is done.
func TestCreateTenant_async(t *testing.T) {
	t.Parallel()
	b := setup(t)
	status, made, text := b.post(`{"slug":"acme"}`, "Prefer", "respond-async, wait=10")
	if status != http.StatusAccepted || made.Operation == nil || made.Operation.State != catalog.OperationWaiting || made.APIKey == "" {
		t.Fatalf("%d %s", status, text)
	}
	if _, err := b.Cache.Authenticate(t.Context(), made.APIKey); err == nil {
		t.Error("the key lets somebody in before the tenant is made")
	}
	status, _, text = b.post(`{"slug":"acme"}`, "Prefer", "respond-async")
	if status != http.StatusConflict || !strings.Contains(text, made.Operation.ID) {
		t.Errorf("a second one doesn't name the first: %d %s", status, text)
	}
	b.OK(b.Fleet.Do(t.Context(), made.Operation.ID))
	b.Until("the key works", func() bool {
		id, err := b.Cache.Authenticate(t.Context(), made.APIKey)
		return err == nil && id.Tenant.String() == made.Tenant.ID
	})
	var o operation
	b.client.Do(http.MethodGet, "/admin/v1/operations/"+made.Operation.ID, "").Into(http.StatusOK, &o)
	if o.State != catalog.OperationDone || o.EndedAt == nil || time.Since(*o.EndedAt) > time.Minute {
		t.Errorf("operation %+v", o)
	}
	for _, s := range o.Steps {
		if s.State != "done" || s.Millis == nil {
			t.Errorf("step %+v", s)
		}
	}
}

// What is wrong with another object than the tenant is named. A tenant that is
// registered and not made yet is audited as one that was made.
func TestCreateTenant_unfinished(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.client.Do(http.MethodPost, "/admin/v1/tenants", `{"slug":"acme","server":"nope"}`).Refused(404, "not_found", "server")
	conn := b.rows()
	_, err := conn.Exec(t.Context(), "update servers set port = 1")
	b.OK(errors.Join(err, conn.Close(t.Context())))
	status, _, text := b.post(`{"slug":"acme"}`)
	if status != http.StatusServiceUnavailable || !strings.Contains(text, "Operation ") {
		t.Errorf("%d %s", status, text)
	}
	b.audited("tenant.create")
}
