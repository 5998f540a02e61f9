package cli

import (
	"context"
	"errors"
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
func (e *env) screen() *screen {
	f, ok := e.out.(*os.File)
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

// live draws the node's router each second until ctx ends or somebody types q,
// and leaves the terminal as it was.
func (e *env) live(ctx context.Context, s *screen, n *node, o topOptions, first nodeRouter) (err error) {
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

	drawn := make(chan []string)
	work.Go(func() { watch(ctx, n, o, drawn) })
	for picture := lines(first); ; {
		if err := s.draw(picture); err != nil {
			return err
		}
		select {
		case picture = <-drawn:
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

// watch sends a picture each second until ctx ends. A node that doesn't answer
// may be starting anew: the picture says so, and the next may be better.
func watch(ctx context.Context, n *node, o topOptions, drawn chan<- []string) {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		r, err := fetch(ctx, n, o)
		picture := lines(r)
		if err != nil {
			picture = []string{time.Now().Format(time.TimeOnly) + "   asking again each second", "", err.Error()}
		}
		if errors.Is(err, context.Canceled) {
			return
		}
		select {
		case drawn <- picture:
		case <-ctx.Done():
			return
		}
	}
}
