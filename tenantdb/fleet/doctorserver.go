package fleet

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/migrations/localpg"
)

// A server is near a limit from this part of it on, in percent.
const nearLimit = 80

// servers looks at all of them, some at once, and tells them in their order. It
// returns by name those that are down or don't answer.
func (d *diagnosis) servers(ctx context.Context, list []catalog.Server) (away map[string]bool) {
	parts := make([]*diagnosis, len(list))
	answers := make([]bool, len(list))
	var group errgroup.Group
	group.SetLimit(proveParallel)
	for i, s := range list {
		parts[i] = &diagnosis{Fleet: d.Fleet}
		group.Go(func() error {
			answers[i] = parts[i].server(ctx, s)
			return nil
		})
	}
	_ = group.Wait() // failures are findings
	away = map[string]bool{}
	for i, s := range list {
		d.findings = append(d.findings, parts[i].findings...)
		away[s.Name] = !answers[i]
	}
	return away
}

// server reports whether the server answers.
func (d *diagnosis) server(ctx context.Context, s catalog.Server) bool {
	at := "server " + s.Name + ": "
	if s.State == catalog.ServerDown {
		if s.Tenants > 0 {
			d.bad(fmt.Sprintf("%sis down, with %d tenants on it", at, s.Tenants), "freehold server set "+s.Name+" --state active, once it answers")
		} else {
			d.ok("%sis down, and holds no tenant", at)
		}
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	conn, err := d.admin(ctx, s.Name, maintenance)
	if err != nil {
		d.bad(at+"can't be reached: "+reason(ctx, err), "check that it runs, and its password: freehold server add "+s.Name+" …")
		return false
	}
	defer closeConn(ctx, conn)
	found, err := readFacts(ctx, conn)
	if err != nil {
		d.bad(at+"can't be read: "+reason(ctx, err), "freehold doctor again, or look at that server's log")
		return false
	}
	if err := found.fit(); err != nil {
		d.bad(at+strings.ReplaceAll(err.Error(), "\n", "; "), "move its tenants to a server that fits")
	} else {
		d.ok("%sPostgres %d.%d answers", at, found.Version/10000, found.Version%10000)
	}
	d.connections(s, found)
	if found.WALLevel != "logical" {
		d.bad(at+"wal_level is "+found.WALLevel+": tenants can be moved off it by dump only, not while they write",
			"alter system set wal_level = 'logical'; then restart it")
	} else {
		d.ok("%swal_level is logical", at)
	}
	d.recovery(s, found.SyncMethod)
	d.room(s)
	d.ready(s)
	d.strangers(ctx, conn, s)
	return true
}

func (d *diagnosis) connections(s catalog.Server, found facts) {
	if _, _, err := found.share(s.Budget, s.Reserve); err != nil {
		d.bad(fmt.Sprintf("server %s: budget %d and reserve %d exceed its max_connections %d, of which %d are kept for superusers",
			s.Name, s.Budget, s.Reserve, found.MaxConnections, found.Kept),
			"freehold server set "+s.Name+" --budget N (or raise max_connections)")
		return
	}
	d.ok("server %s: budget %d and reserve %d of %d connections", s.Name, s.Budget, s.Reserve, found.MaxConnections)
}

// recovery compares what a crash would cost, with the setting as it is now, with
// what it may cost.
func (d *diagnosis) recovery(s catalog.Server, syncMethod string) {
	seconds := s.RecoveryWith(syncMethod)
	if seconds*100 < s.MaxRecovery*nearLimit {
		d.ok("server %s: back about %d s after a crash, of %d s allowed (recovery_init_sync_method is %s)",
			s.Name, seconds, s.MaxRecovery, syncMethod)
		return
	}
	fix := "move tenants off it, or allow more: freehold server set " + s.Name + " --max-recovery DURATION"
	if syncMethod == "fsync" {
		fix = "on Linux: alter system set recovery_init_sync_method = 'syncfs'; select pg_reload_conf();"
	}
	d.bad(fmt.Sprintf("server %s: back about %d s after a crash, %d s are allowed: recovery_init_sync_method is %s, and its databases have many files",
		s.Name, seconds, s.MaxRecovery, syncMethod), fix)
}

func (d *diagnosis) room(s catalog.Server) {
	at := "server " + s.Name + ": "
	more := "add another server, or freehold server set " + s.Name + " --state draining"
	switch percent := s.DiskPercent(); {
	case s.DiskBytes == 0:
		d.ok("%s%s of data; what its disk holds isn't known (freehold server set %s --disk SIZE)", at, size(s.UsedBytes), s.Name)
	case percent >= nearLimit:
		d.bad(fmt.Sprintf("%s%s of data, %d %% of its disk", at, size(s.UsedBytes), percent), more)
	default:
		d.ok("%s%s of data, %d %% of its disk", at, size(s.UsedBytes), percent)
	}
	switch {
	case s.State != catalog.ServerActive:
		d.ok("%s%s: takes no new tenants", at, s.State)
	case s.Databases*100 >= s.Limit*nearLimit:
		d.bad(fmt.Sprintf("%s%d databases of at most %d", at, s.Databases, s.Limit), more)
	default:
		d.ok("%s%d databases of at most %d", at, s.Databases, s.Limit)
	}
}

func (d *diagnosis) ready(s catalog.Server) {
	switch {
	case s.State != catalog.ServerActive || s.Ready == 0:
	case s.ReadyNow >= s.Ready:
		d.ok("server %s: %d ready databases", s.Name, s.ReadyNow)
	default:
		d.bad(fmt.Sprintf("server %s: %d of %d ready databases", s.Name, s.ReadyNow, s.Ready),
			"freehold worker makes them; its log says when it can't")
	}
}

func (d *diagnosis) strangers(ctx context.Context, conn *pgx.Conn, s catalog.Server) {
	open, err := openTo(ctx, conn, "public")
	switch {
	case err != nil:
		d.bad("server "+s.Name+": privileges can't be read: "+reason(ctx, err), "freehold doctor again, or look at that server's log")
	case len(open) > 0:
		d.bad("server "+s.Name+": everybody can connect to "+strings.Join(open, ", "),
			"as a superuser: "+SuperuserStatement(s.AdminUser, open...))
	default:
		d.ok("server %s: strangers can connect to nothing", s.Name)
	}
}

// clients looks for a pg_dump that can read every server: it refuses one that is
// newer than itself.
func (d *diagnosis) clients(servers []catalog.Server) {
	newest, name := 0, ""
	for _, s := range servers {
		if s.Version/10000 > newest {
			newest, name = s.Version/10000, s.Name
		}
	}
	if newest == 0 {
		return
	}
	fix := fmt.Sprintf("install Postgres %d's client programs on this machine, or name their folder: FREEHOLD_PG_BIN", newest)
	dump, err := localpg.FindClient("pg_dump", newest)
	switch {
	case err != nil:
		d.bad("no pg_dump on this machine: it can back up no tenant, nor move one by dump", fix)
	case dump.Major < newest:
		d.bad(fmt.Sprintf("pg_dump %s on this machine is older than server %s, Postgres %d", dump.Version, name, newest), fix)
	default:
		d.ok("pg_dump %s on this machine reads every server", dump.Version)
	}
}

// size is for people.
func size(bytes int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	n, i := float64(bytes), 0
	for ; n >= 1000 && i < len(units)-1; i++ {
		n /= 1000
	}
	return strconv.FormatFloat(n, 'f', min(i, 1), 64) + " " + units[i]
}
