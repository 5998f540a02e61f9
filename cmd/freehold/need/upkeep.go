package need

import (
	"fmt"
	"time"

	"freehold/catalog"
)

// moveStuck names tenants that nobody serves, because a move or a restore has paused
// them and isn't worked on.
func moveStuck(l look) []Need {
	s := l.Upkeep.Stuck
	if s.Count == 0 {
		return nil
	}
	n := Need{Kind: MoveStuck, Count: s.Count, Names: s.Tenants}
	switch {
	case s.Operation == "":
		n.Command = "freehold doctor"
	case s.State == catalog.OperationRunning:
		n.Command = "freehold worker" // whoever had it died
	case s.State == catalog.OperationFailed, s.State == catalog.OperationWaiting:
		n.Command = "freehold operation retry " + s.Operation
	default:
		n.Command = "freehold operation show " + s.Operation
	}
	n.What = fmt.Sprintf("%s moving, and not served, for %s; nobody works on it", are(s.Tenants, s.Count), ago(s.Oldest))
	return []Need{n}
}

// are is the first of some things as the subject of a sentence.
func are(names []string, count int) string {
	if count == 1 {
		return few(names, count) + " is"
	}
	return few(names, count) + " are"
}

// drainTrouble names drains that wait for a person, and those that nobody works on.
func drainTrouble(l look) (needs []Need) {
	for _, d := range l.Upkeep.Drains {
		n := Need{Count: 1, Names: []string{d.Server}}
		switch {
		case d.State == catalog.DrainHalted:
			n.Kind, n.What = DrainHalted, behind("the drain of server "+d.Server+" is halted", d.Error)
			n.Command = "freehold server drain " + d.Server
		case d.Unled > unledFor:
			n.Kind, n.Command = DrainUnled, "freehold worker"
			n.What = fmt.Sprintf("nobody has worked on the drain of server %s for %s", d.Server, ago(d.Unled))
		default:
			continue
		}
		needs = append(needs, n)
	}
	return needs
}

// backupBroken names tenants whose backup could not be restored.
func backupBroken(l look) []Need {
	b := l.Upkeep.Broken
	if b.Count == 0 {
		return nil
	}
	n := Need{Kind: BackupBroken, Count: b.Count, Names: b.Tenants, Command: "freehold tenant backup " + b.Tenants[0] + " --prove"}
	n.What = behind(fmt.Sprintf("%s of %s could not be restored from on trial", plural(b.Count, "backup"), few(b.Tenants, b.Count)), b.Error)
	return []Need{n}
}

// backupLate names tenants whose newest backup is older than their plan says.
func backupLate(l look) []Need {
	late := l.Upkeep.Late
	if len(late) == 0 {
		return nil
	}
	n := Need{Kind: BackupLate, Count: late[0].Of}
	least := late[0].Target
	for _, one := range late {
		n.Names = append(n.Names, one.Tenant)
		least = min(least, one.Target)
	}
	worst := late[0]
	state := "newest " + ago(worst.Age) + " old"
	if worst.Never {
		state = "none in " + ago(worst.Age)
	}
	n.What = fmt.Sprintf("%s outside the backup target: %s; the worst: %s, want one every %s",
		plural(n.Count, "tenant"), few(n.Names, n.Count), state, ago(worst.Target))
	n.Command = "freehold tenant list --backup-older-than " + Age(least)
	return []Need{n}
}

// Age is an age as commands take it: 90m, 12h, 30d.
func Age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day && d%day == 0:
		return fmt.Sprintf("%dd", d/day)
	case d >= time.Hour && d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	default:
		return fmt.Sprintf("%ds", d/time.Second)
	}
}

// restoreUnconfirmed names tenants that were restored in place a day ago or more, and
// of which nobody has said whether it shall stay so.
func restoreUnconfirmed(l look) []Need {
	u := l.Upkeep.Unconfirmed
	if u.Count == 0 {
		return nil
	}
	return []Need{{
		Kind: RestoreUnconfirmed, Count: u.Count, Names: u.Tenants, Command: "freehold tenant confirm " + u.Tenants[0],
		What: fmt.Sprintf("the restore of %s is unconfirmed for %s: the database from before is kept (tenant revert goes back to it)",
			few(u.Tenants, u.Count), ago(u.Oldest)),
	}}
}

// keptTooLong names databases that should have been dropped.
func keptTooLong(l look) []Need {
	k := l.Upkeep.KeptTooLong
	if k.Count == 0 {
		return nil
	}
	return []Need{{
		Kind: KeptTooLong, Count: k.Count, Names: k.Servers, Command: "freehold doctor",
		What: fmt.Sprintf("%s that tenants have left on %s should have been dropped %s ago", plural(k.Count, "database"),
			few(k.Servers, len(k.Servers)), ago(k.Oldest)),
	}}
}
