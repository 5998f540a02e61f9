package inference

import (
	"context"

	"github.com/google/uuid"

	"freehold/tenantdb"
)

// eraseBatch is how many predictions are erased in one borrow.
const eraseBatch = 200

// Erasure is what EraseUser erased.
type Erasure struct {
	Object     string `json:"object"` // prediction.erasure
	Erased     int    `json:"erased"`
	InProgress int    `json:"in_progress"` // of the user's, still at work: ask again when they have ended
}

// Erase erases what was said in a prediction: input, output and end user. Its counts
// and its hash stay. Twice is once. tenantdb.ErrNotFound; tenantdb.ErrInProgress
// while it is at work.
func (s *Service) Erase(ctx context.Context, c Call, id uuid.UUID) error {
	err := c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) error {
		return db.ErasePrediction(ctx, c.eraser(), id)
	})
	if err == nil {
		s.cfg.Settled(c) // it is in the audit
	}
	return err
}

// EraseUser is Erase for all that an end user said, under every name that they are
// stored by. When it fails, what it erased so far is erased: the same call goes on.
func (s *Service) EraseUser(ctx context.Context, c Call, user string) (Erasure, error) {
	all := Erasure{Object: "prediction.erasure"}
	users := s.endUsers(c, user)
	for {
		var e tenantdb.Erasure
		err := c.Tenant.Borrow(ctx, tenantdb.Interactive, func(ctx context.Context, db *tenantdb.DB) (err error) {
			e, err = db.EraseUser(ctx, c.eraser(), users, eraseBatch)
			return err
		})
		if err != nil {
			return all, err
		}
		if e.Erased > 0 {
			s.cfg.Settled(c)
		}
		all.Erased += e.Erased
		all.InProgress = e.InProgress
		if e.Erased < eraseBatch {
			return all, nil
		}
	}
}

func (c Call) eraser() tenantdb.Eraser {
	return tenantdb.Eraser{Actor: "key:" + c.KeyID, RequestID: c.RequestID}
}

// endUsers are the names that an end user may be stored by: their own, and their
// pseudonyms where the name is personal data.
func (s *Service) endUsers(c Call, user string) []string {
	users := []string{user}
	if s.cfg.Pseudonyms != nil {
		users = append(users, s.cfg.Pseudonyms(c.Scope, user)...)
	}
	return users
}
