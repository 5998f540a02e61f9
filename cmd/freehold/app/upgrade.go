package app

import (
	"context"

	"freehold/tenantdb/fleet"
)

// DoctorUpgrade says whether to begin an upgrade of the fleet to this binary.
func (p *Platform) DoctorUpgrade(ctx context.Context) (fleet.UpgradeReport, error) {
	return p.Fleet.DoctorUpgrade(ctx, fleet.UpgradeOptions{SchemaMin: minSchema})
}
