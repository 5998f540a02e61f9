package fleet

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
	"freehold/tenantdb/fleet/dump"
	"freehold/tenantdb/fleet/replica"
)

// checkMove refuses what can't end well before anything is made.
func checkMove(ctx context.Context, a *act) error {
	m, err := a.mover(ctx)
	if err != nil {
		return err
	}
	if a.tenant.Server != m.args.From {
		return fmt.Errorf("it lives on server %s by now: %w", a.tenant.Server, catalog.ErrConflict)
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	target, err := a.cat.Server(ctx, m.args.To)
	if err != nil {
		return err
	}
	source, err := a.cat.Server(ctx, m.args.From)
	if err != nil {
		return err
	}
	if target.State != catalog.ServerActive {
		return fmt.Errorf("server %s is %s: %w", target.Name, target.State, catalog.ErrConflict)
	}
	if _, err := dump.Find(max(source.Version, target.Version) / versionUnit); err != nil {
		return err
	}
	conn, err := a.admin(ctx, target.Name, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	// One of the same name there is somebody's who knows it as this tenant's.
	mark, there, err := markOf(ctx, conn, thingDatabase, a.tenant.Database)
	if err != nil || !there {
		return err
	}
	if ours, err := a.mark(ctx); err != nil || mark != ours {
		return errors.Join(err, fmt.Errorf("server %s has a database %s already, which isn't this catalog's: %w", target.Name, a.tenant.Database, catalog.ErrConflict))
	}
	return nil
}

// makeNewHome makes role and database on the other server, for a replication with all
// that isn't rows. What an earlier try made there goes first.
func makeNewHome(ctx context.Context, a *act) error {
	m, err := a.mover(ctx)
	if err != nil {
		return err
	}
	if err := a.lock(ctx); err != nil {
		return err
	}
	conn, err := a.admin(ctx, m.args.To, maintenance)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	return m.newHome(ctx, conn, m.args.Way == ByReplication)
}

// newHome makes the tenant's role and empty database on the other server. conn is the
// admin's there, on database postgres.
func (m *mover) newHome(ctx context.Context, conn *pgx.Conn, definitions bool) error {
	h := &home{
		Fleet: m.Fleet, id: m.tenant.ID, server: m.args.To, conn: conn,
		login: func(ctx context.Context) (*pgx.ConnConfig, error) {
			route, err := m.cat.Route(ctx, m.tenant.ID)
			return route.Config, err
		},
	}
	if err := h.makeRole(ctx); err != nil {
		return fmt.Errorf("make its role: %w", err)
	}
	if err := m.unsubscribe(ctx, conn); err != nil {
		return err
	}
	like, err := m.localeOf(ctx, m.tenant)
	if err != nil {
		return err
	}
	if err := m.newDatabase(ctx, conn, m.tenant.Database, like); err != nil {
		return fmt.Errorf("make its database: %w", err)
	}
	m.at("home:database")
	if definitions {
		// Before the copy: what changes after this is seen in the end.
		sum, err := m.definitions(ctx)
		if err == nil {
			err = m.cat.NoteOperation(ctx, m.op, noteDefinitions, sum)
		}
		if err != nil {
			return err
		}
		if err := m.pipe(ctx, "--schema-only"); err != nil {
			return fmt.Errorf("copy its definitions: %w", err)
		}
		m.at("home:definitions")
	}
	return h.setPrivileges(ctx)
}

// pipe copies the tenant's database, or a part of it, to the other server.
func (m *mover) pipe(ctx context.Context, options ...string) error {
	source, err := m.cat.Server(ctx, m.args.From)
	if err != nil {
		return err
	}
	target, err := m.cat.Server(ctx, m.args.To)
	if err != nil {
		return err
	}
	tools, err := dump.Find(max(source.Version, target.Version) / versionUnit)
	if err != nil {
		return err
	}
	from, cleanFrom, err := m.client(ctx, m.args.From, m.tenant.Database)
	defer cleanFrom()
	if err != nil {
		return err
	}
	to, cleanTo, err := m.client(ctx, m.args.To, m.tenant.Database)
	defer cleanTo()
	if err != nil {
		return err
	}
	return tools.Pipe(ctx, from, to, options...)
}

// beginReplication has the other server copy all rows, and follow.
func beginReplication(ctx context.Context, a *act) error {
	return replicated(func(ctx context.Context, m *mover) error {
		place, err := m.awaitRoom(ctx)
		if err != nil {
			return err
		}
		defer closeConn(ctx, place)
		source, target, err := m.both(ctx)
		if err != nil {
			return err
		}
		defer closeConn(ctx, source)
		defer closeConn(ctx, target)
		owner, err := m.owner(ctx, m.tenant)
		if err != nil {
			return err
		}
		defer closeConn(ctx, owner)

		tables, err := replica.Tables(ctx, owner)
		if err != nil {
			return translate(ctx, err)
		}
		if err := replica.Publish(ctx, owner, m.link, tables); err != nil {
			return fmt.Errorf("publish: %w", translate(ctx, err))
		}
		m.at("replicate:published")
		if err := replica.MakeSlot(ctx, source, m.link); err != nil {
			return fmt.Errorf("make a slot: %w", translate(ctx, err))
		}
		m.at("replicate:slot")
		info, err := m.connInfo(ctx, source)
		if err != nil {
			return err
		}
		if err := replica.Subscribe(ctx, target, m.link, info); err != nil {
			return fmt.Errorf("subscribe: %w", translate(ctx, err))
		}
		m.at("replicate:subscribed")
		return nil
	})(ctx, a)
}

// connInfo is how the other server logs in to the tenant's: as a role that exists for
// this alone, until the move has ended.
func (m *mover) connInfo(ctx context.Context, source *pgx.Conn) (string, error) {
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	password := base64.RawURLEncoding.EncodeToString(random)
	sealed, err := verifier(password)
	if err != nil {
		return "", err
	}
	if err := replica.MakeLogin(ctx, source, m.link, sealed, m.tenant.Database); err != nil {
		return "", fmt.Errorf("make a role for the replication: %w", translate(ctx, err))
	}
	return m.replicationInfo(ctx, m.args.From, m.tenant.Database, m.link, password)
}

// replicationInfo is a connection string for another server. That one has no copy of
// our certificates: who answers is proven by SCRAM's binding to the channel.
func (f *Fleet) replicationInfo(ctx context.Context, server, database, user, password string) (string, error) {
	cfg, err := f.cat.ServerAdmin(ctx, server, database)
	if err != nil {
		return "", err
	}
	pairs := [][2]string{
		{"host", cfg.Host}, {"port", strconv.Itoa(int(cfg.Port))}, {"dbname", database},
		{"user", user}, {"password", password}, {"connect_timeout", strconv.Itoa(int(connectTimeout.Seconds()))},
		{"application_name", user},
	}
	if cfg.TLSConfig == nil {
		pairs = append(pairs, [2]string{"sslmode", "disable"})
	} else {
		pairs = append(pairs, [2]string{"sslmode", "require"}, [2]string{"channel_binding", "require"})
	}
	var parts []string
	for _, p := range pairs {
		parts = append(parts, p[0]+"='"+strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(p[1])+"'")
	}
	return strings.Join(parts, " "), nil
}

const (
	syncPoll = 200 * time.Millisecond
	// syncStall is how long a replication may stand still before it counts as broken.
	syncStall = 10 * time.Minute
	// nearEnough is how many bytes of changes may be under way when the pause begins.
	nearEnough = 1 << 20
)

// ErrStalled is returned when a replication doesn't get on; the text says why, if
// that is known.
var ErrStalled = errors.New("the replication stands still")

// awaitSync waits until all rows are on the other server, and changes follow closely.
func awaitSync(ctx context.Context, a *act) error {
	return replicated(func(ctx context.Context, m *mover) error {
		source, target, err := m.both(ctx)
		if err != nil {
			return err
		}
		defer closeConn(ctx, source)
		defer closeConn(ctx, target)
		moved, before := time.Now(), replica.Progress{}
		for {
			p, err := replica.ReadProgress(ctx, source, target, m.link)
			if err != nil {
				return translate(ctx, err)
			}
			if p.Tables > 0 && p.Ready == p.Tables && p.Behind < nearEnough {
				return nil
			}
			if p.Ready != before.Ready || p.Behind < before.Behind || p.Copied != before.Copied {
				moved = time.Now()
			}
			if before = p; time.Since(moved) > syncStall {
				return fmt.Errorf("%w: %d of %d tables are there, %d bytes behind: %s", ErrStalled, p.Ready, p.Tables, p.Behind, p.Trouble)
			}
			if err := m.stillWanted(ctx); err != nil {
				return err
			}
			if err := pause(ctx, syncPoll); err != nil {
				return err
			}
		}
	})(ctx, a)
}

// stillWanted is ErrCancelled once somebody has asked the operation to stop.
func (a *act) stillWanted(ctx context.Context) error {
	return a.cat.KeepOperation(ctx, a.op, a.taker().Lease)
}

// What a move notes.
const (
	noteDefinitions = "definitions" // hash of what isn't rows, before they were copied
	noteCompared    = "compared"    // of the tables, while they are served
	noteKept        = "kept_until"  // of the old database
)

// compareServed compares all tables while the tenant is served, so that only what
// changes from here on has to be compared in the pause. The new database gets its
// statistics.
func compareServed(ctx context.Context, a *act) error {
	return replicated(func(ctx context.Context, m *mover) error {
		source, target, err := m.both(ctx)
		if err != nil {
			return err
		}
		defer closeConn(ctx, source)
		defer closeConn(ctx, target)
		if err := m.analyze(ctx, m.args.To, m.tenant.Database); err != nil {
			return err
		}
		compared, err := replica.BeforePause(ctx, source, target, m.link)
		if err != nil {
			return translate(ctx, err)
		}
		return m.cat.NoteOperation(ctx, m.op, noteCompared, compared)
	})(ctx, a)
}

// definitions is a hash of what isn't rows in the tenant's database.
func (m *mover) definitions(ctx context.Context) (string, error) {
	conn, err := m.owner(ctx, m.tenant)
	if err != nil {
		return "", err
	}
	defer closeConn(ctx, conn)
	sum, _, err := Fingerprint(ctx, conn)
	return hex.EncodeToString(sum), translate(ctx, err)
}

// errChanged is a tenant's database that doesn't have what was copied from it.
var errChanged = errors.New("the copy isn't the same")

// unsubscribe has the other server's database follow nobody any more. conn is the
// admin's there.
func (m *mover) unsubscribe(ctx context.Context, conn *pgx.Conn) error {
	// One that lets nobody in is half of one: its maker died before it followed anybody.
	whole, err := databaseOpen(ctx, conn, m.tenant.Database)
	if err != nil || !whole {
		return err
	}
	target, err := m.on(ctx, m.args.To)
	if err != nil {
		return err
	}
	defer closeConn(ctx, target)
	if err := replica.Unsubscribe(ctx, target, m.link); err != nil {
		return fmt.Errorf("end the subscription: %w", translate(ctx, err))
	}
	return nil
}

// unpublish takes from the tenant's old server what a replication made there, whatever
// the old database is called by now. conn is the admin's, on database postgres.
func (m *mover) unpublish(ctx context.Context, conn *pgx.Conn, database string) error {
	if m.args.Way != ByReplication {
		return nil
	}
	if err := replica.DropSlots(ctx, conn, m.link, database); err != nil {
		return fmt.Errorf("drop its slot: %w", translate(ctx, err))
	}
	if err := replica.DropLogin(ctx, conn, m.link); err != nil {
		return fmt.Errorf("drop the role of the replication: %w", translate(ctx, err))
	}
	return nil
}
