package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// resume kills `freehold migrate up` when half of the tenants are done, and looks how
// long `freehold migrate resume`, from the start of its process, takes until the next
// tenant is done.
func (y *shipyard) resume(ctx context.Context, b *bench) error {
	defer b.fewRounds()()
	program, err := y.build(ctx, "freehold/cmd/freehold")
	if err != nil {
		return err
	}
	h, err := y.manyTenants(ctx, b)
	if err != nil {
		return err
	}
	keyFile := filepath.Join(y.folder, "master.key")
	if err := h.keys.Write(keyFile); err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, h.server.URL(fleetCatalog))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	o := &operator{
		harbour: h, catalog: conn, program: program, dir: filepath.Join(y.folder, "product"),
		env: []string{"FREEHOLD_CATALOG_URL=" + h.adminURL(fleetCatalog), "FREEHOLD_MASTER_KEY_FILE=" + keyFile},
	}
	var first, one []float64
	resumed := &side{name: "first tenant of migrate resume, in medians", turn: func(ctx context.Context, _ int, _ time.Duration) (float64, error) {
		f, m, err := o.killAndResume(ctx)
		first, one = append(first, f), append(one, m)
		return f / m, err
	}}
	if err := b.play(ctx, "resume", resumed); err != nil {
		return err
	}
	return b.emit("resume", "ratio", atMost(50), resumed.rounds, fmt.Sprintf("%s ms, a tenant takes %s ms",
		figure(median(first)), figure(median(one))))
}

// operator migrates a harbour's tenants by commands.
type operator struct {
	*harbour
	catalog *pgx.Conn
	program string
	dir     string
	env     []string
}

const (
	countDone = `
select count(*) filter (where x.state = 'done') as done, count(*) as targets
  from rollouts r join rollout_targets x on x.rollout = r.id
 where r.stream = 'product' and r.target = $1`

	// Of those that the first command did: the second has a cold start.
	selectFirst = `
select extract(epoch from min(x.ended_at) filter (where x.ended_at > $2) - $2)::float8 * 1000 as first,
       percentile_cont(0.5) within group (order by x.millis) filter (where x.ended_at <= $2) as one
  from rollouts r join rollout_targets x on x.rollout = r.id
 where r.stream = 'product' and r.target = $1 and r.state = 'done' and x.state = 'done'`
)

// killAndResume migrates all tenants one version further, with a death on the way. It
// returns how long it took until there was a further tenant, and what one takes: both
// in milliseconds.
func (o *operator) killAndResume(ctx context.Context) (first, one float64, err error) {
	o.version++
	if err := writeProduct(o.dir, 1, o.version); err != nil {
		return 0, 0, err
	}
	up := o.command("migrate", "up", "--dir", o.dir, "--waves", "100", "--soak", "0s", "--budget", "0")
	if err := up.start(); err != nil {
		return 0, 0, err
	}
	done, targets, err := o.awaitHalf(ctx, up)
	up.kill()
	if err != nil {
		return 0, 0, fmt.Errorf("migrate up: %w: %s", err, up.said())
	}
	began := time.Now()
	resume := o.command("migrate", "resume")
	if err := resume.start(); err != nil {
		return 0, 0, err
	}
	if err := resume.wait(ctx); err != nil {
		return 0, 0, fmt.Errorf("migrate resume: %w: %s", err, resume.said())
	}
	var f, m *float64
	if err := o.catalog.QueryRow(ctx, selectFirst, o.version, began).Scan(&f, &m); err != nil {
		return 0, 0, err
	}
	if f == nil || m == nil {
		return 0, 0, fmt.Errorf("%w: %d of %d were done when it was killed, and none afterwards", errNotMigrated, done, targets)
	}
	return *f, *m, nil
}

// awaitHalf waits until half of the targets are done.
func (o *operator) awaitHalf(ctx context.Context, p *process) (done, targets int, err error) {
	for ctx.Err() == nil {
		if err := o.catalog.QueryRow(ctx, countDone, o.version).Scan(&done, &targets); err != nil {
			return done, targets, err
		}
		if targets > 0 && done >= targets/2 {
			return done, targets, nil
		}
		select {
		case <-p.done:
			return done, targets, errors.New("it ended before its time")
		case <-time.After(2 * time.Millisecond):
		}
	}
	return done, targets, ctx.Err()
}

// process is a command that can be killed. Wait for it, or kill it.
type process struct {
	cmd  *exec.Cmd
	out  bytes.Buffer // read it once the process has ended
	done chan struct{}
	err  error // how it ended
}

// command has nothing in its environment of Freehold's but the operator's.
func (o *operator) command(args ...string) *process {
	p := &process{cmd: exec.Command(o.program, args...), done: make(chan struct{})}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FREEHOLD_") {
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Env = append(p.cmd.Env, o.env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for us
	return p
}

func (p *process) start() error {
	if err := p.cmd.Start(); err != nil {
		return err
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return nil
}

// kill leaves it no time to say anything.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// wait waits for its end; when ctx ends first, it is killed.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return p.err
	case <-ctx.Done():
		p.kill()
		return ctx.Err()
	}
}

func (p *process) said() string { return strings.TrimSpace(p.out.String()) }
