package cli

import (
	"io"
	"os"
	"sync"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// bar shows how far a work is, on stderr and only at a terminal. Whoever makes one
// ends it, before anything else is written.
type bar struct {
	out     io.Writer // nil: nobody looks
	options []progressbar.Option

	mu    sync.Mutex // guards drawn and ended
	drawn *progressbar.ProgressBar
	ended bool
}

// What a line of 80 columns has room for, besides the counts.
const (
	barWidth = 20
	barText  = 36
)

// bar makes one; nothing is drawn before draw.
func (e *env) bar(options ...progressbar.Option) *bar {
	f, ok := e.err.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &bar{}
	}
	return &bar{out: f, options: options}
}

// draw shows that done of total are done. It may be called by several at once. A
// bar that can't be drawn harms nobody.
func (b *bar) draw(what string, done, total int) {
	if b.out == nil {
		return
	}
	if r := []rune(what); len(r) > barText {
		what = string(r[:barText-1]) + "…"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return // the last one was quicker
	}
	if b.drawn == nil {
		b.drawn = progressbar.NewOptions(max(1, total), append([]progressbar.Option{
			progressbar.OptionSetWriter(b.out), progressbar.OptionShowCount(), progressbar.OptionSetWidth(barWidth),
			progressbar.OptionClearOnFinish(),
		}, b.options...)...)
	}
	b.drawn.Describe(what)
	b.drawn.ChangeMax(max(1, total))
	_ = b.drawn.Set(done)
}

// end clears the line, for good.
func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if b.drawn != nil {
		_ = b.drawn.Clear()
	}
}
