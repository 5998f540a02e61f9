package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"freehold/catalog"
)

// Where a pause goes is read in the servers' logs: what Freehold's own role asked
// there, and how long each answer took. Nodes log in as others there; on the catalog's
// server, what anybody asked that took long.
const (
	logPrefix  = `alter system set log_line_prefix = '%n %p '`
	logAll     = `alter role postgres set log_min_duration_statement = 0`
	logSlow    = `alter system set log_min_duration_statement = 5`
	reloadConf = `select pg_reload_conf()`

	// tellMost is how many statements are told of a pause, tellWidth their length.
	tellMost  = 10
	tellWidth = 110
)

// statementLog is a server's log from a mark on.
type statementLog struct {
	name   string
	path   string
	offset int64
}

func (l *statementLog) mark() { l.offset = fileBytes(l.path) }

// logStatements has the servers tell. It binds sessions from now on.
func (d *docks) logStatements(ctx context.Context) error {
	for i, g := range append([]*ground{d.estate.ground}, d.quays...) {
		name, role := "catalog", logSlow
		if i > 0 {
			name, role = quayName(i-1), logAll
		}
		for _, sql := range []string{logPrefix, role, reloadConf} {
			if _, err := g.super.Exec(ctx, sql); err != nil {
				return err
			}
		}
		d.logs = append(d.logs, &statementLog{name: name, path: filepath.Join(g.server.Folder(), "postgres.log")})
	}
	return nil
}

// part is a statement that was answered.
type part struct {
	server     string
	begun, end time.Duration // from the beginning
	what       string
}

// tellPause tells people where a move's pause went.
func (d *docks) tellPause(b *bench, o catalog.Operation, pause time.Duration) {
	notes, err := o.Notes()
	var began time.Time
	if err == nil {
		err = json.Unmarshal(notes["paused_at"], &began)
	}
	if err != nil {
		b.progress("    when it was paused can't be read: %v", err)
		return
	}
	d.tellParts(b, began, pause)
}

// tellParts tells people where the time went, of what the logs hold since their marks.
func (d *docks) tellParts(b *bench, began time.Time, took time.Duration) {
	var parts []part
	var err error
	for _, l := range d.logs {
		if err == nil {
			parts, err = l.read(parts, began, took)
		}
	}
	if err != nil {
		b.progress("    its parts can't be read: %v", err)
		return
	}
	slices.SortFunc(parts, func(x, y part) int { return cmp.Compare(y.end-y.begun, x.end-x.begun) })
	longest := slices.Clone(parts[:min(tellMost, len(parts))])
	slices.SortFunc(longest, func(x, y part) int { return cmp.Compare(x.begun, y.begun) })
	for _, p := range longest {
		b.progress("    at %4d ms, %4d ms on %s: %s", p.begun.Milliseconds(), (p.end - p.begun).Milliseconds(), p.server, shorten(p.what))
	}
	b.progress("    in %d ms none of %d statements was being answered", (took - covered(parts)).Milliseconds(), len(parts))
}

// covered is how long at least one of the parts went on.
func covered(parts []part) (total time.Duration) {
	parts = slices.Clone(parts)
	slices.SortFunc(parts, func(x, y part) int { return cmp.Compare(x.begun, y.begun) })
	var until time.Duration
	for _, p := range parts {
		if from := max(p.begun, until); p.end > from {
			total += p.end - from
			until = p.end
		}
	}
	return total
}

// read adds the statements that ended within a time.
func (l *statementLog) read(parts []part, began time.Time, took time.Duration) ([]part, error) {
	file, err := os.Open(l.path)
	if err != nil {
		return parts, err
	}
	defer file.Close()
	if _, err := file.Seek(l.offset, io.SeekStart); err != nil {
		return parts, err
	}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	var last *part // whose statement goes on in the next line
	for lines.Scan() {
		line := lines.Text()
		if more, goesOn := strings.CutPrefix(line, "\t"); goesOn {
			if last != nil {
				last.what += " " + more
			}
			continue
		}
		last = nil
		if p, ok := parsePart(line, began); ok && p.end >= 0 && p.end <= took {
			p.server = l.name
			parts = append(parts, p)
			last = &parts[len(parts)-1]
		}
	}
	return parts, lines.Err()
}

// parsePart reads a line like
//
//	1700000000.123 4242 LOG:  duration: 1.234 ms  execute <unnamed>: select 1
func parsePart(line string, began time.Time) (p part, ok bool) {
	stamp, rest, _ := strings.Cut(line, " ")
	_, rest, ok = strings.Cut(rest, "duration: ")
	took, what, found := strings.Cut(rest, " ms  ")
	at, err := strconv.ParseFloat(stamp, 64)
	ms, merr := strconv.ParseFloat(took, 64)
	if !ok || !found || err != nil || merr != nil {
		return p, false
	}
	p.end = time.UnixMilli(int64(at * 1000)).Sub(began)
	p.begun = max(0, p.end-time.Duration(ms*float64(time.Millisecond)))
	p.what = what
	return p, true
}

// shorten leaves out the middle of what is long.
func shorten(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) <= tellWidth {
		return text
	}
	return text[:tellWidth/2] + " … " + text[len(text)-tellWidth/2:]
}
