package fleet

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"freehold/catalog"
	"freehold/tenantdb"
	"freehold/tenantdb/fleet/replica"
)

// fitness is what the server is fit for as one end of a replication. Postgres 15 lets
// superusers alone make roles of replication, and subscriptions.
func (s facts) fitness() catalog.Fitness {
	return catalog.Fitness{
		WALLevel:     s.WALLevel,
		CanPublish:   s.Superuser || s.Version >= 16_00_00 && s.Replication,
		CanSubscribe: s.Superuser || s.Subscriber,
	}
}

// Lacks names what keeps tenants from being moved from and to a server while they are
// served, as it was found when it was last looked at, each with what mends it. It is
// empty for a server that lacks nothing, or wasn't looked at.
func Lacks(s catalog.Server) (list []string) {
	if s.WALLevel == "" {
		return nil
	}
	admin := ident(s.AdminUser)
	may := func(from16 string) string {
		if s.Version < 16_00_00 {
			from16 = "alter role " + admin + " superuser"
		}
		return "a superuser runs once: " + from16
	}
	if s.WALLevel != "logical" {
		list = append(list, "moves from here will copy under pause: wal_level is "+s.WALLevel+
			"; run: alter system set wal_level = 'logical', and restart it")
	}
	if !s.CanPublish {
		list = append(list, "moves from here will copy under pause: its admin may not make roles of replication; "+
			may("alter role "+admin+" replication"))
	}
	if !s.CanSubscribe {
		list = append(list, "moves to here will copy under pause: its admin may not make subscriptions; "+
			may("grant pg_create_subscription to "+admin+"; grant create on database "+maintenance+" to "+admin))
	}
	return list
}

const (
	// linkTime bounds the trying of one direction, and linksTime that of all: one that
	// doesn't answer holds nobody up.
	linkTime    = 5 * time.Second
	linksTime   = 30 * time.Second
	linksAtOnce = 4
)

// CheckLinks looks again at what a server, by name, is fit for, and tries whether it
// can replicate from each other server that isn't down, and each of those from it: what
// comes of it is in the catalog's links. Of servers that don't answer nothing new is
// known. The error is the catalog's and this server's own: catalog.ErrNotFound,
// tenantdb.ErrUnavailable.
func (f *Fleet) CheckLinks(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, linksTime)
	defer cancel()
	here, err := f.refit(ctx, name)
	if err != nil {
		return fmt.Errorf("check links: %w", err)
	}
	servers, err := f.cat.Servers(ctx)
	if err != nil {
		return fmt.Errorf("check links: %w", err)
	}
	var group errgroup.Group
	group.SetLimit(linksAtOnce)
	for _, s := range servers {
		if s.Name == name || s.State == catalog.ServerDown {
			continue
		}
		group.Go(func() error { return f.checkPair(ctx, here, s.Name) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("check links: %w", err)
	}
	return nil
}

// refit looks at what a server is fit for, and records it.
func (f *Fleet) refit(ctx context.Context, name string) (catalog.Server, error) {
	ctx, cancel := context.WithTimeout(ctx, linkTime)
	defer cancel()
	conn, err := f.admin(ctx, name, maintenance)
	if err != nil {
		return catalog.Server{}, err
	}
	defer closeConn(ctx, conn)
	found, err := readFacts(ctx, conn)
	if err != nil {
		return catalog.Server{}, err
	}
	if err := f.cat.SetFitness(ctx, name, found.fitness()); err != nil {
		return catalog.Server{}, err
	}
	return f.cat.Server(ctx, name)
}

// checkPair tries both directions between two servers. Its error is the catalog's.
func (f *Fleet) checkPair(ctx context.Context, here catalog.Server, name string) error {
	other, err := f.refit(ctx, name)
	if err != nil {
		return f.unlinked(ctx, here.Name, name, err)
	}
	for _, pair := range [][2]catalog.Server{{here, other}, {other, here}} {
		source, target := pair[0], pair[1]
		why, err := f.tryLink(ctx, source, target)
		if err == nil {
			err = f.cat.SetServerLink(ctx, source.Name, target.Name, why)
		}
		if err != nil {
			err = f.unlinked(ctx, source.Name, target.Name, err)
		}
		if err != nil { // else the other direction may do
			return err
		}
	}
	return nil
}

// unlinked keeps what is the catalog's of an error: one of the servers being away says
// nothing of the others.
func (f *Fleet) unlinked(ctx context.Context, source, target string, err error) error {
	if errors.Is(err, catalog.ErrUnavailable) {
		return err
	}
	f.log.WarnContext(ctx, "link between servers not tried", "source", source, "target", target, "reason", reason(ctx, err))
	return nil
}

// unfit says what keeps the target from replicating from the source, as far as that can
// be told without trying; empty when nothing does.
func unfit(source, target catalog.Server) string {
	switch {
	case source.WALLevel != "logical":
		return fmt.Sprintf("wal_level of server %s is %s", source.Name, source.WALLevel)
	case !source.CanPublish:
		return "the admin of server " + source.Name + " may not make roles of replication"
	case !target.CanSubscribe:
		return "the admin of server " + target.Name + " may not make subscriptions"
	default:
		return ""
	}
}

// tryLink says why the target can't replicate from the source; empty when it can. The
// error says that it could not be tried.
func (f *Fleet) tryLink(ctx context.Context, source, target catalog.Server) (why string, err error) {
	if why := unfit(source, target); why != "" {
		return why, nil
	}
	ctx, cancel := context.WithTimeout(ctx, linkTime)
	defer cancel()
	at, err := f.admin(ctx, source.Name, maintenance)
	if err != nil {
		return "", err
	}
	defer closeConn(ctx, at)
	to, err := f.admin(ctx, target.Name, maintenance)
	if err != nil {
		return "", err
	}
	defer closeConn(ctx, to)

	dropOldLinks(ctx, at)
	login, password := newLink()
	sealed, err := verifier(password)
	if err != nil {
		return "", err
	}
	// The role goes also when making it was cut off, or the caller is gone.
	defer func() {
		dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), linkTime)
		defer cancel()
		err := replica.DropLogin(dctx, at, login)
		if err != nil { // the connection ended with ctx
			err = f.onServer(dctx, source.Name, func(conn *pgx.Conn) error { return replica.DropLogin(dctx, conn, login) })
		}
		if err != nil {
			f.log.WarnContext(ctx, "throw-away role not dropped", "server", source.Name, "role", login, "reason", reason(dctx, err))
		}
	}()
	if err := replica.MakeLogin(ctx, at, login, sealed, maintenance); err != nil {
		switch {
		case state(err) == stateDenied:
			return "the admin of server " + source.Name + " may not make roles of replication", nil
		case errors.Is(err, replica.ErrUnfit): // whose right to connect is its own alone
			return fmt.Sprintf("the admin of server %s may not let a role of replication connect to database %s; a superuser runs there once: grant connect on database %[2]s to %s with grant option",
				source.Name, maintenance, ident(source.AdminUser)), nil
		}
		return "", translate(ctx, err)
	}
	info, err := f.replicationInfo(ctx, source.Name, maintenance, login, password)
	if err != nil {
		return "", err
	}
	switch err := replica.Probe(ctx, to, info); {
	case err == nil:
		return "", nil
	case ctx.Err() != nil:
		return fmt.Sprintf("server %s reaches server %s not within %s", target.Name, source.Name, linkTime), nil
	case errors.Is(err, tenantdb.ErrUnavailable) && !errors.Is(err, replica.ErrUnreachable):
		return "", err
	default:
		return fmt.Sprintf("server %s doesn't reach server %s: %s", target.Name, source.Name, reason(ctx, err)), nil
	}
}

// onServer runs fn on a connection of the admin's to database postgres.
func (f *Fleet) onServer(ctx context.Context, server string, fn func(*pgx.Conn) error) error {
	conn, err := f.admin(ctx, server, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return fn(conn)
}

// linkPrefix begins the names of the roles that links are tried with. Behind it is when
// they were made, in seconds, so that those that killed processes left are known.
const linkPrefix = "freehold_link_"

const linkLife = 5 * time.Minute

var linkPattern = regexp.MustCompile(`^` + linkPrefix + `([0-9a-f]{8,12})_[0-9a-f]{16}$`)

func newLink() (name, password string) {
	random := make([]byte, 40)
	_, _ = rand.Read(random) // never fails
	name = fmt.Sprintf("%s%08x_%s", linkPrefix, time.Now().Unix(), hex.EncodeToString(random[:8]))
	return name, base64.RawURLEncoding.EncodeToString(random[8:])
}

const linkRoles = `select rolname from pg_roles where starts_with(rolname, '` + linkPrefix + `')`

// dropOldLinks removes what killed processes left. It is only tidying: nobody knows
// those roles' passwords.
func dropOldLinks(ctx context.Context, conn *pgx.Conn) {
	list, err := names(ctx, conn, linkRoles)
	if err != nil {
		return
	}
	for _, name := range list {
		m := linkPattern.FindStringSubmatch(name)
		if m == nil {
			continue
		}
		if made, err := strconv.ParseInt(m[1], 16, 64); err == nil && time.Since(time.Unix(made, 0)) > linkLife {
			_ = replica.DropLogin(ctx, conn, name)
		}
	}
}
