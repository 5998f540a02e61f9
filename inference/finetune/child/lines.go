package child

import (
	"bufio"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// outlet is the worker's end of a pipe that the command writes to. Once the guard
// has ended, a read waits a second at most: a process that got away may hold the
// other end for ever. What is in the pipe by then is still read.
type outlet struct {
	*os.File
	ended atomic.Bool
	first sync.Once
	heard chan struct{} // closed when something was read
}

func newOutlet() *outlet { return &outlet{heard: make(chan struct{})} }

func (o *outlet) Read(p []byte) (int, error) {
	if o.ended.Load() {
		_ = o.SetReadDeadline(time.Now().Add(sweepTime))
	}
	n, err := o.File.Read(p)
	if n > 0 {
		o.first.Do(func() { close(o.heard) })
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = io.EOF
	}
	return n, err
}

// end says that the guard has ended.
func (o *outlet) end() {
	o.ended.Store(true)
	_ = o.SetReadDeadline(time.Now().Add(sweepTime))
}

// eachLine gives each line of r to fn, without its end, and leaves out those longer
// than maxLine. It stops at fn's first error, which it returns.
func eachLine(r io.Reader, fn func([]byte) error) error {
	b := bufio.NewReaderSize(r, 64<<10)
	var line []byte
	long := false
	for {
		part, err := b.ReadSlice('\n')
		whole := err == nil
		if whole {
			part = part[:len(part)-1]
		}
		if long = long || len(line)+len(part) > maxLine; !long {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if !long && (whole || len(line) > 0) {
			if err := fn(line); err != nil {
				return err
			}
		}
		if !whole {
			return nil
		}
		line, long = line[:0], false
		if cap(line) > 64<<10 {
			line = nil
		}
	}
}

// tail is a file that keeps the last half to whole of most bytes written to it.
type tail struct {
	file *os.File
	size int64
	most int64
}

func openTail(path string, most int64) (*tail, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	// A file that was there keeps its mode otherwise.
	return &tail{file: f, most: most}, f.Chmod(0o600)
}

func (t *tail) Write(p []byte) (int, error) {
	all, half := len(p), t.most/2
	kept := t.size
	if int64(all) > half {
		p, kept = p[int64(all)-half:], 0
	} else if t.size+int64(all) > t.most {
		kept = half
	}
	if kept < t.size {
		old := make([]byte, kept)
		if _, err := t.file.ReadAt(old, t.size-kept); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if err := t.file.Truncate(0); err != nil {
			return 0, err
		}
		if _, err := t.file.WriteAt(old, 0); err != nil {
			return 0, err
		}
		t.size = kept
	}
	n, err := t.file.WriteAt(p, t.size)
	t.size += int64(n)
	if err != nil {
		return n, err
	}
	return all, nil
}
