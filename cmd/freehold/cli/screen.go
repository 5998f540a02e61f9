package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// refresh is how often a live screen is drawn.
const refresh = time.Second

// What a terminal understands.
const (
	clearScreen = "\x1b[2J"
	home        = "\x1b[H"
	clearLine   = "\x1b[K"
	clearBelow  = "\x1b[J"
	hideCursor  = "\x1b[?25l"
	showCursor  = "\x1b[?25h"
)

// screen is a terminal that is drawn on.
type screen struct{ out *os.File }

// screen returns the terminal that this command writes to, or nil.
func (e *env) screen() *screen { return screenOf(e.out) }

// screenOf is the terminal behind w, or nil.
func screenOf(w io.Writer) *screen {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &screen{f}
}

// draw shows as many lines as there is room for.
func (s *screen) draw(lines []string) error {
	width, height, err := term.GetSize(int(s.out.Fd()))
	if err != nil || width < 1 || height < 1 {
		width, height = 80, 24
	}
	var b strings.Builder
	b.WriteString(home)
	for i, line := range lines[:min(len(lines), height)] {
		if i > 0 {
			b.WriteString("\r\n")
		}
		if r := []rune(line); len(r) > width {
			line = string(r[:width])
		}
		b.WriteString(line + clearLine)
	}
	b.WriteString(clearBelow)
	_, err = io.WriteString(s.out, b.String())
	return err
}

// picture is what a live screen shows; the last one ends it.
type picture struct {
	lines []string
	last  bool
}

// live draws first, and each second what again makes, until that is the last, ctx
// ends or somebody types q, and leaves the terminal as it was.
func (e *env) live(ctx context.Context, s *screen, first picture, again func(context.Context) picture) (err error) {
	ctx, stop := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer func() {
		stop()
		work.Wait()
	}()
	keys := make(chan byte)
	if in, ok := e.stdin.(*os.File); ok && singleKeys && term.IsTerminal(int(in.Fd())) {
		// Keys come one by one and aren't shown; Ctrl-C comes as one.
		before, err := term.MakeRaw(int(in.Fd()))
		if err != nil {
			return fmt.Errorf("prepare terminal: %w", err)
		}
		defer func() { _ = term.Restore(int(in.Fd()), before) }()
		work.Go(func() { readKeys(ctx, in, keys) })
	}
	if _, err := io.WriteString(s.out, hideCursor+clearScreen); err != nil {
		return err
	}
	defer func() { _, _ = io.WriteString(s.out, "\r\n"+showCursor) }()

	drawn := make(chan picture)
	work.Go(func() { watch(ctx, again, drawn) })
	for now := first; ; {
		if err := s.draw(now.lines); err != nil || now.last {
			return err
		}
		select {
		case now = <-drawn:
		case key := <-keys:
			if key == 'q' || key == ctrlC {
				return nil
			}
		case <-ctx.Done():
			return nil
		}
	}
}

const ctrlC = 3

// watch sends a picture each second until ctx ends.
func watch(ctx context.Context, again func(context.Context) picture, drawn chan<- picture) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		next := again(ctx)
		if ctx.Err() != nil {
			return
		}
		select {
		case drawn <- next:
		case <-ctx.Done():
			return
		}
	}
}

// unanswered is the picture of what doesn't answer: it may be starting anew, and
// the next may be better.
func unanswered(err error) picture {
	return picture{lines: []string{time.Now().Format(time.TimeOnly) + "   asking again each second", "", err.Error()}}
}
