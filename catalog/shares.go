package catalog

import (
	"context"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// ShareAsk is what a node says of itself at a server.
type ShareAsk struct {
	Server string // its id
	Cap    int    // what the node keeps to from now on: never above what it was granted, lower to give back
	Demand int    // connections it could use now
}

// Share is what a node may hold at a server.
type Share struct {
	Granted int      // connections that it may hold, until it has been silent for StaleServe
	Target  int      // what it should go down to, when lower than Granted; the next ask says how far it got
	Budget  int      // the whole server's
	Nodes   int      // live nodes that ask for a share there
	Silent  []string // nodes (ids) that were silent for dead_after and still hold a part: theirs returns by DropShare, when their backends are gone
}

// deadMargin is what lies between a node's own end of serving and the moment
// when others act on it: a dial or a transaction that was under way is over by
// then.
const deadMargin = 5 * time.Second

// DeadAfter is how long a node that serves for staleServe without the catalog
// must have been silent to count as dead: for acknowledgements, budget shares and
// reservations alike.
func DeadAfter(staleServe time.Duration) time.Duration { return staleServe + deadMargin }

const (
	// Asks at one server follow one another, so that two nodes can't both take
	// its last part.
	lockShares = `select budget from servers where id = $1 for no key update`

	// The time is read behind the lock: never before the moment from which the
	// node counts its own silence.
	upsertShare = `
insert into budget_shares (server, node, granted, demand, heartbeat_at)
values ($1, $2, 0, $4, clock_timestamp())
on conflict (server, node) do update
   set granted = least(budget_shares.granted, $3), demand = excluded.demand,
       heartbeat_at = excluded.heartbeat_at`

	selectShares = `
select node::text as node, granted, demand,
       node = $2 or heartbeat_at >= clock_timestamp() - $3::interval as live
  from budget_shares where server = $1 order by node`

	growShare = `update budget_shares set granted = $3 where server = $1 and node = $2`

	// What a silent node doesn't hold needn't be waited for.
	forgetShares = `
delete from budget_shares
 where server = $1 and granted = 0 and heartbeat_at < clock_timestamp() - $2::interval`
)

// Share tells what the node is doing at a server and returns what it may hold
// there. What it gives back counts at once, since it keeps to Cap already; what
// it is granted more comes from what no row holds, silent nodes' included, so
// that all rows together never exceed the budget. Nodes that were silent for
// deadAfter are given nothing and leave their part out of what is divided. A
// tenth of a budget of 20 or more stays free for a node that joins.
// ErrNotFound for an unknown server.
func (c *Catalog) Share(ctx context.Context, node string, ask ShareAsk, deadAfter time.Duration) (Share, error) {
	server, me, err := shareKey(ask.Server, node,
		within("cap", ask.Cap, 0, math.MaxInt32), within("demand", ask.Demand, 0, math.MaxInt32))
	if err != nil {
		return Share{}, wrap("ask for share", err)
	}
	var share Share
	err = pgx.BeginFunc(ctx, c.writer, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, lockShares, server).Scan(&share.Budget); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, upsertShare, server, me, ask.Cap, ask.Demand); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, selectShares, server, me, deadAfter)
		if err != nil {
			return err
		}
		held, err := pgx.CollectRows(rows, pgx.RowToStructByName[holding])
		if err != nil {
			return err
		}
		before, forget := share.divide(held, me.String())
		if share.Granted > before {
			if _, err := tx.Exec(ctx, growShare, server, me, share.Granted); err != nil {
				return err
			}
		}
		if forget {
			_, err = tx.Exec(ctx, forgetShares, server, deadAfter)
		}
		return err
	})
	if err != nil {
		return Share{}, wrap("ask for share", err)
	}
	return share, nil
}

// spare is the part of a budget that nobody is granted for long: a node that joins
// has it at once, without waiting until the others have given back or, after a
// crash of the only one, until that counts as dead. Small budgets have none.
func spare(budget int) int {
	if budget < 20 {
		return 0
	}
	return budget / 10
}

// holding is a node's row at a server.
type holding struct {
	Node            string
	Granted, Demand int
	Live            bool
}

// divide works out what one of the nodes may hold. before is what its row says
// now; forget tells of rows that are of no use to anybody.
func (s *Share) divide(held []holding, me string) (before int, forget bool) {
	var demands []int
	mine, sum, silent := 0, 0, 0
	for _, h := range held {
		sum += h.Granted
		switch {
		case h.Live:
			if h.Node == me {
				mine, before = len(demands), h.Granted
			}
			demands = append(demands, h.Demand)
		case h.Granted > 0:
			silent += h.Granted
			s.Silent = append(s.Silent, h.Node)
		default:
			forget = true
		}
	}
	s.Nodes = len(demands)
	s.Target = fairParts(s.Budget-max(silent, spare(s.Budget)), demands)[mine]
	s.Granted = max(before, min(s.Target, before+s.Budget-sum))
	return before, forget
}

const deleteShare = `
delete from budget_shares
 where server = $1 and node = $2 and heartbeat_at < clock_timestamp() - $3::interval`

// DropShare returns a silent node's part to the others, and reports whether it
// did: a node that has asked within deadAfter keeps it. The caller has made sure
// that none of the node's backends is left at the server.
func (c *Catalog) DropShare(ctx context.Context, server, node string, deadAfter time.Duration) (bool, error) {
	at, who, err := shareKey(server, node)
	if err != nil {
		return false, wrap("drop share", err)
	}
	tag, err := c.writer.Exec(ctx, deleteShare, at, who, deadAfter)
	return tag.RowsAffected() > 0, wrap("drop share", err)
}

const deleteShares = `delete from budget_shares where node = $1`

// LeaveShares returns all parts of a node that has closed its connections at
// every server and opens none any more.
func (c *Catalog) LeaveShares(ctx context.Context, node string) error {
	who, err := uuid.Parse(node)
	if err != nil {
		return wrap("leave shares", invalid(wrong("node", "want a uuid")))
	}
	_, err = c.writer.Exec(ctx, deleteShares, who)
	return wrap("leave shares", err)
}

// shareKey parses a row's key, and joins what else is wrong.
func shareKey(server, node string, errs ...error) (s, n uuid.UUID, err error) {
	if s, err = uuid.Parse(server); err != nil {
		errs = append(errs, wrong("server", "want a uuid"))
	}
	if n, err = uuid.Parse(node); err != nil {
		errs = append(errs, wrong("node", "want a uuid"))
	}
	return s, n, invalid(errs...)
}

// Share is Catalog.Share for this node, with its DeadAfter.
func (c *Cache) Share(ctx context.Context, ask ShareAsk) (Share, error) {
	return c.catalog.Share(ctx, c.node.String(), ask, c.DeadAfter())
}

// StaleServe is how long what is known is served without the catalog.
func (c *Cache) StaleServe() time.Duration { return c.cfg.StaleServe }

// DeadAfter is how long a node with this one's StaleServe must be silent to
// count as dead.
func (c *Cache) DeadAfter() time.Duration { return DeadAfter(c.cfg.StaleServe) }
