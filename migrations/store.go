package migrations

import (
	"context"

	"github.com/pressly/goose/v3/database"
)

// store is goose's own version table, asked less: what it says was read when the
// lock was taken, and nobody changes it meanwhile.
type store struct {
	database.Store
	run *run
}

var _ database.StoreExtender = (*store)(nil)

func (s *store) TableExists(context.Context, database.DBTxConn) (bool, error) { return true, nil }

func (s *store) GetMigration(_ context.Context, _ database.DBTxConn, version int64) (*database.GetMigrationResult, error) {
	for _, v := range s.run.applied {
		if v == version {
			return &database.GetMigrationResult{IsApplied: true}, nil
		}
	}
	return nil, database.ErrVersionNotFound
}

// Insert is called when the migration's statements are done, in its transaction if
// it has one.
func (s *store) Insert(ctx context.Context, db database.DBTxConn, req database.InsertRequest) error {
	s.run.at(pointDDL)
	if s.run.check != nil {
		if err := s.run.check(ctx); err != nil {
			return err
		}
	}
	if err := s.Store.Insert(ctx, db, req); err != nil {
		return err
	}
	s.run.at(pointRow)
	return nil
}

// Delete is its counterpart, of a migration that is taken back.
func (s *store) Delete(ctx context.Context, db database.DBTxConn, version int64) error {
	s.run.at(pointDDL)
	if err := s.Store.Delete(ctx, db, version); err != nil {
		return err
	}
	s.run.at(pointRow)
	return nil
}
