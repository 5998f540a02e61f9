package catalog

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// Add puts a new key into the keyset and its file. It opens what is sealed with
// it from now on, and seals nothing before MakePrimary. One that is there and was
// never made primary is taken as it is, so that doing this twice adds one.
func (k *Keyset) Add() (keyID int64, err error) {
	err = k.change(func(m *keyset.Manager, was *keys) error {
		if keyID = was.newest(); keyID != was.primary {
			return nil
		}
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		keyID = int64(id)
		return err
	})
	return keyID, err
}

// MakePrimary has a key of the keyset seal from now on. Twice is once.
func (k *Keyset) MakePrimary(keyID int64) error {
	return k.change(func(m *keyset.Manager, was *keys) error {
		if !was.has(keyID) {
			return fmt.Errorf("key %d: %w", keyID, ErrNotFound)
		}
		return m.SetPrimary(uint32(keyID))
	})
}

// Rotation is what RotateKeyset did.
type Rotation struct {
	Old        int64    `json:"old_key"`
	New        int64    `json:"new_key"`
	Resealed   int      `json:"resealed"`
	Unreadable []string `json:"unreadable"` // rows that no key of the keyset opens
}

// NodesBehind is returned by RotateKeyset when nodes or workers don't have the keyset's file
// as it is now. It is an ErrConflict: the file has to be copied to them.
type NodesBehind struct {
	Nodes   []string // by name
	KeyID   int64
	Sealing bool // they know the new key, and go on sealing with the old one
}

func (e *NodesBehind) Error() string {
	lack := "do not know"
	if e.Sealing {
		lack = "do not yet seal with"
	}
	return fmt.Sprintf("these nodes and workers %s master key %d: %s", lack, e.KeyID, strings.Join(e.Nodes, ", "))
}

// Is reports whether target is ErrConflict.
func (e *NodesBehind) Is(target error) bool { return target == ErrConflict }

// RotateOptions of RotateKeyset; zero values are the documented defaults.
type RotateOptions struct {
	Wait     time.Duration         // for nodes to read the file; 30 s
	Progress func(done, total int) // of the rows that are resealed; nil: nobody asks
}

// RotateKeyset replaces the master key while everything runs: a new key comes
// into the file; once every live node knows it, it becomes primary; then all that
// is sealed with another one is sealed anew. Old keys stay, since old backups are
// sealed with them. Whatever ended it before its end, the next call goes on there,
// and the seal, which is last, tells whether there is something to go on with.
// *NodesBehind names the nodes that need the file. ErrConflict while another
// rotation runs.
func (c *Catalog) RotateKeyset(ctx context.Context, actor string, o RotateOptions) (Rotation, error) {
	o.Wait = orDefault(o.Wait, 30*time.Second)
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	unlock, err := c.lockRotation(ctx)
	if err != nil {
		return Rotation{}, err
	}
	defer unlock()

	var seal []byte
	if err := c.writer.QueryRow(ctx, selectSeal).Scan(&seal); err != nil {
		return Rotation{}, wrap("rotate keyset", err)
	}
	r, err := c.stageKey(ctx, actor, seal)
	if err != nil {
		return r, err
	}
	if err := c.awaitNodes(ctx, o.Wait, &NodesBehind{KeyID: r.New}); err != nil {
		return r, err
	}
	if err := c.keyset.MakePrimary(r.New); err != nil {
		return r, err
	}
	deadline := time.Now().Add(o.Wait)
	walk := &reseal{Catalog: c, keyID: r.New, progress: o.Progress}
	err = walk.run(ctx)
	if err == nil {
		// What a node sealed with the old key meanwhile is sealed anew below. While one
		// goes on doing that, the rotation hasn't ended.
		if err = c.awaitNodes(ctx, time.Until(deadline), &NodesBehind{KeyID: r.New, Sealing: true}); err == nil {
			err = walk.run(ctx)
		}
	}
	r.Resealed, r.Unreadable = walk.done, walk.unreadable
	if err != nil {
		return r, err
	}
	return r, c.moveSeal(ctx, seal, actor, r)
}

// stageKey says which key is to be primary: the one that a rotation before began
// with, or a new one. That a rotation begins is written down before the file is
// changed.
func (c *Catalog) stageKey(ctx context.Context, actor string, seal []byte) (Rotation, error) {
	r := Rotation{Unreadable: []string{}}
	if err := openSeal(c.keyset, seal); err != nil {
		return r, err
	}
	now, err := c.keyset.latest()
	if err != nil {
		return r, err
	}
	old, known := sealedWith(seal)
	if !known {
		return r, fmt.Errorf("rotate keyset: the seal names no key: %w", ErrConflict)
	}
	if r.Old = old; old != now.primary {
		r.New = now.primary
		return r, nil
	}
	if now.newest() == now.primary {
		if err := c.AppendAudit(ctx, actor, "keyset.rotate.begin", TenantID{}, map[string]any{"old": old}); err != nil {
			return r, err
		}
	}
	r.New, err = c.keyset.Add()
	return r, err
}

// One rotation at a time; the lock ends with its connection.
const lockRotate = `select pg_try_advisory_lock(hashtextextended('freehold_keyset_rotate', 0))`

func (c *Catalog) lockRotation(ctx context.Context) (unlock func(), err error) {
	conn, err := pgx.ConnectConfig(ctx, c.writer.Config().ConnConfig)
	if err != nil {
		return nil, wrap("rotate keyset", err)
	}
	var locked bool
	err = wrap("rotate keyset", conn.QueryRow(ctx, lockRotate).Scan(&locked))
	if err == nil && !locked {
		err = fmt.Errorf("rotate keyset: another rotation is running: %w", ErrConflict)
	}
	if err != nil {
		closeConn(ctx, conn)
		return nil, err
	}
	return func() { closeConn(ctx, conn) }, nil
}

const (
	// rotatePoll is how often nodes are asked.
	rotatePoll = 200 * time.Millisecond

	// A node, or a worker, tells its keys with its heartbeat, every second, and the
	// primary first.
	selectNodesBehind = `
select distinct name from nodes
 where heartbeat_at > now() - interval '5 s'
   and case when $2 then keys[1] is distinct from $1 else not $1 = any (keys) end
 order by name`
)

// awaitNodes returns when every live node has the key; behind, with their names,
// when some don't within the time.
func (c *Catalog) awaitNodes(ctx context.Context, wait time.Duration, behind *NodesBehind) error {
	for deadline := time.Now().Add(wait); ; {
		rows, err := c.writer.Query(ctx, selectNodesBehind, behind.KeyID, behind.Sealing)
		if err != nil {
			return wrap("rotate keyset", err)
		}
		behind.Nodes, err = pgx.CollectRows(rows, pgx.RowTo[string])
		switch {
		case err != nil:
			return wrap("rotate keyset", err)
		case len(behind.Nodes) == 0:
			return nil
		case time.Now().After(deadline):
			return behind
		}
		if !pause(ctx, rotatePoll) {
			return wrap("rotate keyset", ctx.Err())
		}
	}
}
