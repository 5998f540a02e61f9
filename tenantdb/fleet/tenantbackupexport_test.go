package fleet

import (
	"context"
	"io"
	"strings"

	"freehold/catalog"
)

// BackupRead is what a tenant's backup holds.
type BackupRead struct {
	Header  BackupHeader
	Objects []BackupObject
	Dump    []byte
	Tables  []BackupTable
}

// ReadBackup reads all of a tenant's backup.
func (f *Fleet) ReadBackup(ctx context.Context, id catalog.TenantID, key string) (b BackupRead, err error) {
	r, err := f.openBackup(ctx, id, key)
	if err != nil {
		return b, err
	}
	defer r.Close()
	b.Header, b.Objects = r.Header, r.Objects
	if b.Dump, err = io.ReadAll(r.Dump()); err != nil {
		return b, err
	}
	b.Tables, err = r.Tables()
	return b, err
}

// CheckBackup is checkBackup.
func (f *Fleet) CheckBackup(ctx context.Context, id catalog.TenantID, key string) error {
	_, _, err := f.checkBackup(ctx, id, key)
	return err
}

// BackupPoints lists the points of a backup at which dying differs: within its steps,
// and where one is made and nobody has written that down.
func BackupPoints() []string {
	const kind = catalog.KindBackup
	points := []string{kind + "/dump:noted", kind + "/dump:stored", "proof/restore"}
	for _, p := range Points(kind) {
		if strings.HasSuffix(p, ":made") {
			points = append(points, p)
		}
	}
	return points
}

// TenantBackupKey and ParseTenantBackupKey are for their own test.
var (
	TenantBackupKey      = tenantBackupKey
	ParseTenantBackupKey = parseTenantBackupKey
)
