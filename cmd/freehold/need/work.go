package need

import (
	"fmt"
	"time"

	"freehold/catalog"
)

func operationFailed(l look) (needs []Need) {
	for _, g := range l.Failed {
		n := Need{Kind: OperationFailed, Count: g.Count, Names: g.Tenants}
		at := g.Kind
		if g.Step != "" {
			at += ", at step " + g.Step
		}
		// What failed is tried again from where it stopped; of many the first is tried.
		n.What = behind(fmt.Sprintf("%s failed (%s) for %s", plural(g.Count, "operation"), at, few(g.Tenants, g.Count)), g.Error)
		n.Command = "freehold operation list --state failed --kind " + g.Kind
		if g.Count == 1 && len(g.IDs) == 1 {
			n.Command = "freehold operation retry " + g.IDs[0]
		}
		needs = append(needs, n)
	}
	return needs
}

func operationOverdue(l look) (needs []Need) {
	for _, g := range l.Overdue {
		needs = append(needs, Need{
			Kind: OperationOverdue, Count: g.Count, Names: g.Tenants, Command: "freehold worker",
			What: fmt.Sprintf("%s overdue (%s) for %s: no worker does it", plural(g.Count, "operation"), g.Kind, few(g.Tenants, g.Count)),
		})
	}
	return needs
}

func finding(l look) (needs []Need) {
	for _, g := range l.Findings {
		n := Need{Kind: Finding, What: g.What, Count: g.Count, Names: g.Objects, Command: command(g)}
		if g.Count > 1 {
			n.What += fmt.Sprintf("; the same with %s", few(g.Objects[min(1, len(g.Objects)):], g.Count-1))
		}
		needs = append(needs, n)
	}
	return needs
}

// command is a finding's own, where it is one and there is one finding.
func command(g catalog.FindingGroup) string {
	if g.Count == 1 && len(g.Fix) > len("freehold ") && g.Fix[:len("freehold ")] == "freehold " {
		return g.Fix
	}
	return "freehold doctor"
}

const (
	// backupAge is how old the catalog's newest backup may be, and backupGrace how
	// old a platform may become without one: they are made by the hour.
	backupAge   = 24 * time.Hour
	backupGrace = 2 * time.Hour
)

func catalogBackupOld(l look) []Need {
	n := Need{Kind: CatalogBackupOld, Command: "freehold catalog backup", Count: 1}
	switch {
	case l.FirstTenant == 0:
		return nil
	case l.Backup == nil && l.FirstTenant > backupGrace:
		n.What = "the catalog has no backup"
	case l.Backup != nil && *l.Backup > backupAge:
		n.What = "the newest backup of the catalog is " + ago(*l.Backup) + " old"
	default:
		return nil
	}
	return []Need{n}
}

func mailStuck(l look) []Need {
	m := l.Mail
	if m.Count == 0 {
		return nil
	}
	n := Need{Kind: MailStuck, Count: m.Count, Names: m.Tenants, Command: "freehold mail list"}
	n.What = behind(fmt.Sprintf("%s not delivered (%d given up) to %s", plural(m.Count, "mail"), m.GivenUp, few(m.Tenants, m.Count)), m.Error)
	if m.GivenUp == m.Count {
		n.Command += " --state given_up"
	}
	if m.Count == 1 && len(m.IDs) == 1 {
		n.Command = "freehold mail retry " + m.IDs[0]
	}
	return []Need{n}
}

// overdue is how long a periodic work may stay undone, and what an operator runs
// instead. One that isn't named may for a day and a bit.
var overdue = map[string]struct {
	after   time.Duration
	command string
}{
	"catalog-backup":  {5 * time.Hour, "freehold catalog backup"},
	"audit-heads":     {5 * time.Hour, "freehold worker"},
	"tenant-backups":  {time.Hour, "freehold worker"},
	"reconcile":       {time.Hour, "freehold doctor"},
	"measure-servers": {time.Hour, "freehold doctor"},
	"ready-databases": {time.Hour, "freehold server list"},
	"database-names":  {time.Hour, "freehold doctor"},
	"mail":            {time.Hour, "freehold mail list"},
	"tenant-visits":   {time.Hour, "freehold doctor"},
	"daily-visits":    {26 * time.Hour, "freehold doctor"},
}

// choreBlip is how long what is done again and again may fail: one bad moment is
// nobody's business.
const choreBlip = 5 * time.Minute

const overdueAfter = 26 * time.Hour

func choreFailed(l look) (needs []Need) {
	for _, c := range l.Chores {
		known, ok := overdue[c.Name]
		if !ok {
			known.after, known.command = overdueAfter, "freehold doctor"
		}
		n := Need{Kind: ChoreFailed, Count: 1, Names: []string{c.Name}, Command: known.command}
		switch {
		case c.Name == catalog.RestoreChore: // once, by hand
			if !c.Failed {
				continue
			}
			n.What, n.Command = "the restore of the catalog from "+line(c.Error)+" has not come to its end", "freehold catalog restore"
		case c.Tried > known.after && !ok:
			continue // another release's, which nobody does any more
		case c.Tried > known.after && c.Failed:
			n.What = behind("periodic work "+c.Name+" failed "+ago(c.Tried)+" ago, and no worker does it since", c.Error)
			n.Command = "freehold worker"
		case c.Tried > known.after:
			n.What = "periodic work " + c.Name + " was last done " + ago(c.Done) + " ago: no worker does it"
			n.Command = "freehold worker"
		case c.Failed && c.Done > choreBlip:
			n.What = behind("periodic work "+c.Name+" failed", c.Error)
		default:
			continue
		}
		needs = append(needs, n)
	}
	return needs
}
