package need

import (
	"fmt"

	"freehold/catalog"
)

// visits is one kind of trouble that workers have met at tenants'.
func (l look) visits(kind string) []catalog.VisitTrouble {
	for _, v := range l.Visits {
		if v.Kind == kind {
			return []catalog.VisitTrouble{v}
		}
	}
	return nil
}

func auditLate(l look) (needs []Need) {
	for _, v := range l.visits(catalog.VisitAudit) {
		needs = append(needs, Need{
			Kind: AuditLate, Count: v.Count, Names: v.Tenants, Command: "freehold doctor",
			What: fmt.Sprintf("the audit of %s has rows without a seal for %s", few(v.Tenants, v.Count), ago(v.Oldest)),
		})
	}
	return needs
}

func spoolLeft(l look) (needs []Need) {
	for _, v := range l.visits(catalog.VisitSpool) {
		needs = append(needs, Need{
			Kind: SpoolLeft, Count: v.Count, Names: v.Tenants, Command: "freehold doctor",
			What: behind(fmt.Sprintf("settlements of %s are left in the object store for %s", few(v.Tenants, v.Count), ago(v.Oldest)), v.Error),
		})
	}
	return needs
}

func visitFailing(l look) (needs []Need) {
	for _, v := range l.visits(catalog.VisitFails) {
		needs = append(needs, Need{
			Kind: VisitFailing, Count: v.Count, Names: v.Tenants, Command: "freehold doctor",
			What: behind(fmt.Sprintf("periodic work at %s fails for %s", few(v.Tenants, v.Count), ago(v.Oldest)), v.Error),
		})
	}
	return needs
}
