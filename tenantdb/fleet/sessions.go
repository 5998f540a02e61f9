package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"freehold/catalog"
)

const (
	// settleTime is how long a tenant that is stopped keeps its sessions: what was
	// admitted is settled, and nodes close their connections by themselves.
	settleTime = time.Second
	// endTime is how long its role's sessions may take to end when told to.
	endTime = 3 * time.Second
	// loginTimeout bounds all that is done at the server beside waiting for it.
	loginTimeout = 15 * time.Second
	// lookAgain is when a session that was just logging in is listed too.
	lookAgain   = 25 * time.Millisecond
	sessionPoll = 20 * time.Millisecond
)

// Every role may see whose sessions there are.
const countSessions = `select count(*) from pg_stat_activity where usename = $1`

func sessions(ctx context.Context, conn *pgx.Conn, role string) (n int, err error) {
	err = conn.QueryRow(ctx, countSessions, role).Scan(&n)
	return n, translate(ctx, err)
}

// endSessions waits for settleTime until no session of a stopped tenant's role is
// left, takes its LOGIN away, ends what is left, and looks. decide, under the lock
// of whoever changes LOGIN, says whether that is still wanted. ErrSessionsLeft when
// sessions are left, or nobody could look.
func (f *Fleet) endSessions(ctx context.Context, t catalog.Tenant, decide func(context.Context) error) error {
	err := f.withLogin(ctx, t, f.patience, func(ctx context.Context, conn *pgx.Conn) error {
		if err := awaitSessions(ctx, conn, t.Role, settleTime); err != nil {
			return err
		}
		if err := decide(ctx); err != nil {
			return err
		}
		return shutOut(ctx, conn, t.Role)
	})
	if err != nil && !errors.Is(err, catalog.ErrConflict) && !errors.Is(err, ErrSessionsLeft) {
		return fmt.Errorf("%w: %w", ErrSessionsLeft, err)
	}
	return err
}

// awaitSessions waits for d, or until the role has no session.
func awaitSessions(ctx context.Context, conn *pgx.Conn, role string, d time.Duration) error {
	for deadline := time.Now().Add(d); ; {
		n, err := sessions(ctx, conn, role)
		if err != nil || n == 0 || time.Now().After(deadline) {
			return err
		}
		if err := pause(ctx, sessionPoll); err != nil {
			return err
		}
	}
}

// shutOut takes LOGIN from a role and ends its sessions. A role that isn't there
// has none.
func shutOut(ctx context.Context, conn *pgx.Conn, role string) error {
	if err := allowLogin(ctx, conn, role, false); err != nil {
		return err
	}
	left, err := sessionsTwice(ctx, conn, role)
	if err != nil || left == 0 {
		return err
	}
	// The signal needs the role's own rights, which we have only meanwhile.
	if _, err := conn.Exec(ctx, "grant "+ident(role)+" to current_user"); err != nil {
		return fmt.Errorf("become the role: %w", translate(ctx, err))
	}
	defer func() {
		rctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_, _ = conn.Exec(rctx, "revoke "+ident(role)+" from current_user") // who ends its sessions next does it again
	}()
	return terminate(ctx, conn, role)
}

const terminateSessions = `
select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = $1`

func terminate(ctx context.Context, conn *pgx.Conn, role string) error {
	var refused error
	for deadline := time.Now().Add(endTime); ; {
		// Refused, it is tried again: a session can keep an outdated list of the roles
		// that it is in for a moment.
		if _, err := conn.Exec(ctx, terminateSessions, role); err != nil {
			if refused = translate(ctx, err); state(refused) != stateDenied {
				return refused
			}
		}
		left, err := sessionsTwice(ctx, conn, role)
		if err != nil || left == 0 {
			return err
		}
		if time.Now().After(deadline) {
			if refused != nil {
				return fmt.Errorf("%w: %d: %w", ErrSessionsLeft, left, refused)
			}
			return fmt.Errorf("%w: %d", ErrSessionsLeft, left)
		}
		if err := pause(ctx, sessionPoll); err != nil {
			return err
		}
	}
}

// sessionsTwice looks again when there is none: who was let in just before LOGIN
// went is listed a moment later.
func sessionsTwice(ctx context.Context, conn *pgx.Conn, role string) (int, error) {
	n, err := sessions(ctx, conn, role)
	if err != nil || n > 0 {
		return n, err
	}
	if err := pause(ctx, lookAgain); err != nil {
		return 0, err
	}
	return sessions(ctx, conn, role)
}

const selectLogin = `select rolcanlogin from pg_roles where rolname = $1`

// allowLogin gives LOGIN to a role or takes it, and looks. Of a role that isn't
// there none can be taken, and it needs none; to give it one is an error.
func allowLogin(ctx context.Context, conn *pgx.Conn, role string, allow bool) error {
	can, found, err := canLogin(ctx, conn, role)
	switch {
	case err != nil:
		return err
	case !found && allow:
		return fmt.Errorf("role %s is not on the server", role)
	case !found, can == allow:
		return nil
	}
	attribute := "nologin"
	if allow {
		attribute = "login"
	}
	if _, err := conn.Exec(ctx, "alter role "+ident(role)+" "+attribute); err != nil {
		return fmt.Errorf("alter role: %w", translate(ctx, err))
	}
	if can, found, err = canLogin(ctx, conn, role); err == nil && found && can != allow {
		err = fmt.Errorf("the server did not take %s of role %s", attribute, role)
	}
	return err
}

func canLogin(ctx context.Context, conn *pgx.Conn, role string) (can, found bool, err error) {
	err = conn.QueryRow(ctx, selectLogin, role).Scan(&can)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, false, nil
	}
	return can, err == nil, translate(ctx, err)
}
