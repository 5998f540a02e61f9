package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"freehold/catalog"
	"freehold/inference"
)

// Reminders is what a node's pipeline asks and tells the catalog.
type Reminders struct{ w *pipeline }

// NewReminders makes it of what it calls.
func NewReminders(
	due func(context.Context, catalog.TenantID, time.Duration) error,
	live func(context.Context, time.Duration) ([]uuid.UUID, error),
) Reminders {
	return Reminders{&pipeline{
		markDue: due, liveNodes: live, log: slog.New(slog.DiscardHandler),
		due: make(chan catalog.TenantID, 4), told: map[catalog.TenantID]time.Time{}, liveTurn: make(chan struct{}, 1),
	}}
}

// Active is a request of the tenant's.
func (r Reminders) Active(id catalog.TenantID) { r.w.remind(inference.Call{Scope: id.String()}) }

// Tell runs until ctx ends, and what is done then has been done.
func (r Reminders) Tell(ctx context.Context) { r.w.tell(ctx) }

// Alive lists who is alive.
func (r Reminders) Alive(ctx context.Context) ([]uuid.UUID, error) {
	return r.w.alive(ctx, time.Minute)
}
