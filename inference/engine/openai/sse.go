package openai

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// event is one server-sent event. Its data is valid until the next is read.
type event struct {
	name string
	data []byte
}

// events reads a stream of server-sent events, by the rules of the HTML standard,
// section 9.2.6, with one exception: what stands before the end of the stream is
// an event also without the blank line that many servers forget.
type events struct {
	in     *bufio.Reader
	limit  int // bytes of a line, and of an event's data
	begun  bool
	skipLF bool // the line before ended with a CR: an LF now belongs to it
	buf    []byte
	data   []byte
}

func newEvents(r io.Reader, limit int) *events {
	return &events{in: bufio.NewReaderSize(r, 32<<10), limit: limit}
}

// next returns the next event that has data; io.EOF after the last.
func (e *events) next() (event, error) {
	var ev event
	e.data = e.data[:0]
	some := false
	for {
		line, err := e.line()
		if errors.Is(err, io.EOF) && some {
			ev.data = e.data
			return ev, nil
		}
		if err != nil {
			return event{}, err
		}
		if len(line) == 0 {
			if some {
				ev.data = e.data
				return ev, nil
			}
			ev.name = ""
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) { // empty for a comment
		case "event":
			ev.name = string(value)
		case "data":
			if some {
				e.data = append(e.data, '\n')
			}
			some = true
			if e.data = append(e.data, value...); len(e.data) > e.limit {
				return event{}, errTooLarge
			}
		}
	}
}

// line returns the next line without its end, which is LF, CR or CRLF. It never
// waits for the byte after a CR.
func (e *events) line() ([]byte, error) {
	e.buf = e.buf[:0]
	for {
		if _, err := e.in.Peek(1); errors.Is(err, io.EOF) && len(e.buf) > 0 {
			return e.whole(), nil
		} else if err != nil {
			return nil, err
		}
		have, _ := e.in.Peek(e.in.Buffered()) // what is there can't fail
		if e.skipLF {
			e.skipLF = false
			if have[0] == '\n' {
				e.drop(1)
				continue
			}
		}
		n, ended := lineEnd(have)
		if e.buf = append(e.buf, have[:n]...); len(e.buf) > e.limit {
			return nil, errTooLarge
		}
		if !ended {
			e.drop(n)
			continue
		}
		e.skipLF = have[n] == '\r'
		e.drop(n + 1)
		return e.whole(), nil
	}
}

// drop goes past bytes that were peeked at.
func (e *events) drop(n int) { _, _ = e.in.Discard(n) }

// lineEnd returns how much of b stands before the first LF or CR.
func lineEnd(b []byte) (n int, ended bool) {
	n = bytes.IndexByte(b, '\n')
	if ended = n >= 0; ended {
		b = b[:n]
	}
	if cr := bytes.IndexByte(b, '\r'); cr >= 0 {
		return cr, true
	}
	return len(b), ended
}

// whole returns the line in buf, the stream's first one without a byte order mark.
func (e *events) whole() []byte {
	if e.begun {
		return e.buf
	}
	e.begun = true
	return bytes.TrimPrefix(e.buf, []byte("\xEF\xBB\xBF"))
}
