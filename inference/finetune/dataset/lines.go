package dataset

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
)

// Bounds of a file. The least number of examples is OpenAI's.
const (
	MaxLine     = 1 << 20 // bytes of a line, without its end
	MaxExamples = 200_000
	MinExamples = 10
)

const readAhead = 64 << 10

// lines reads a file line by line and keeps no more of one than MaxLine.
type lines struct {
	r    *bufio.Reader
	long []byte // a line that is longer than what r holds
	n    int    // lines read
}

// line is one line. Its text is valid until the next is read.
type line struct {
	text    []byte
	long    bool // longer than MaxLine: text is of no use
	windows bool // it ended with \r\n
}

func newLines(ctx context.Context, r io.Reader) *lines {
	return &lines{r: bufio.NewReaderSize(&reader{ctx, r}, readAhead)}
}

// mark consumes a byte order mark: "UTF-8", "UTF-16", or empty when there is none.
func (l *lines) mark() (string, error) {
	head, err := l.r.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xef\xbb\xbf")):
		_, err = l.r.Discard(3)
		return "UTF-8", err
	case bytes.HasPrefix(head, []byte("\xff\xfe")), bytes.HasPrefix(head, []byte("\xfe\xff")):
		return "UTF-16", nil
	}
	return "", nil
}

// next returns the next line, or io.EOF. After a final line end no line begins.
func (l *lines) next() (line, error) {
	part, err := l.r.ReadSlice('\n')
	if len(part) == 0 && err != nil {
		return line{}, err
	}
	l.n++
	if errors.Is(err, bufio.ErrBufferFull) {
		l.long = l.long[:0]
		for {
			if len(l.long) <= MaxLine+2 {
				l.long = append(l.long, part...)
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				break
			}
			part, err = l.r.ReadSlice('\n')
		}
		part = l.long
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return line{}, err
	}
	part = bytes.TrimSuffix(part, []byte("\n"))
	text, windows := bytes.CutSuffix(part, []byte("\r"))
	return line{text, len(text) > MaxLine, windows}, nil
}

// reader ends when its context does.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r *reader) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(p)
}

// counts are of what was read of a file.
type counts struct {
	lines int // all
	tried int // that aren't empty: meant as examples

	unread bool // it is no text that could be read line by line
}

// each reads a file and calls good with each example and bad with each error, by
// line. Both may end the reading with an error, which it returns; so does an error
// of r or ctx. What it calls good with is valid during the call.
func each(ctx context.Context, r io.Reader, good func(n int, ex *example) error, bad func(*LineError) error) (counts, error) {
	l := newLines(ctx, r)
	var (
		c       counts
		windows bool
		blanks  int // empty lines before this one
	)
	// report has what is wrong with a line told, and stops at an error of bad.
	report := func(list ...*LineError) error {
		for _, e := range list {
			if err := bad(e); err != nil {
				return err
			}
		}
		return nil
	}
	mark, err := l.mark()
	if err != nil {
		return c, fmt.Errorf("read data: %w", err)
	}
	switch mark {
	case "UTF-8":
		err = report(flaw(1, CodeByteOrderMark, "The file begins with a byte order mark. Save it as UTF-8 without one."))
	case "UTF-16": // nothing else that could be said of it would be of help
		c.lines, c.unread = 1, true
		return c, report(flaw(1, CodeByteOrderMark, "The file is UTF-16, by its byte order mark. Save it as UTF-8 without one."))
	}
	for err == nil {
		var ln line
		ln, err = l.next()
		c.lines = l.n
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return c, fmt.Errorf("read data: %w", err)
		}
		if ln.windows && !windows {
			// One editor wrote them all: saying so once is enough.
			windows = true
			if err = report(flaw(l.n, CodeWindowsLines, "The line ends with a carriage return, as Windows ends lines. End all lines with a line feed alone.")); err != nil {
				return c, err
			}
		}
		if !ln.long && blank(ln.text) {
			blanks++
			continue
		}
		for ; blanks > 0 && err == nil; blanks-- { // those at the end of a file harm nobody
			err = report(flaw(l.n-blanks, CodeEmptyLine, "The line is empty. Each line must be an example."))
		}
		if err != nil {
			return c, err
		}
		if c.tried == MaxExamples {
			return c, report(flaw(l.n, CodeTooMany, "The file has more than %d examples; it was read no further.", MaxExamples))
		}
		c.tried++
		if ln.long {
			err = report(flaw(l.n, CodeLineTooLong, "The line is longer than %d bytes.", MaxLine))
			continue
		}
		ex, flaws := readLine(l.n, ln.text)
		if len(flaws) > 0 {
			err = report(flaws...)
			continue
		}
		err = good(l.n, ex)
	}
	return c, err
}

func blank(text []byte) bool {
	for _, b := range text {
		if !isSpace(b) {
			return false
		}
	}
	return true
}
