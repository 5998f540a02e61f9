package rest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	// firstEventWait is how long the status line waits for a stream's first event,
	// so that what fails at once fails with a status of its own.
	firstEventWait = 2 * time.Second
	// pingEvery keeps proxies awake, and a write finds out about a client that left.
	pingEvery = time.Second
)

// events is a stream on its way: a producer (the handler's function) hands over
// frames, the server's writer takes them.
type events struct {
	frames chan []byte // closed when the producer has ended
	err    error       // the producer's; read after frames is closed
}

// stream answers with server-sent events. release is called once, when producer
// and writer have both ended.
func (d *Door) stream(ctx context.Context, c *fiber.Ctx, cl *call, reply *Reply, cancel context.CancelCauseFunc, release func()) {
	setAll(c, reply.header)
	stopEnding := context.AfterFunc(d.streams, func() { cancel(ErrShuttingDown) })
	ev := &events{frames: make(chan []byte, 16)}
	go func() {
		defer close(ev.frames)
		_, err := d.protect(cl.id, func() (*Reply, error) {
			return nil, reply.stream(ctx, func(event any) error { return ev.send(ctx, event) })
		})
		ev.err = because(ctx, err)
	}()
	first, ended := ev.first()
	if ended && ev.err != nil {
		stopEnding()
		release()
		d.fail(c, cl, ev.err)
		return
	}
	if first != nil {
		cl.first = time.Since(cl.started)
	}
	c.Status(http.StatusOK)
	c.Set(fiber.HeaderContentType, "text/event-stream; charset=utf-8")
	c.Set(fiber.HeaderCacheControl, "no-cache")
	c.Set("X-Accel-Buffering", "no")
	c.Set("Openai-Processing-Ms", fmt.Sprint(time.Since(cl.started).Milliseconds()))
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer release()
		defer stopEnding()
		// This goroutine is the server's: nobody else would catch its panic.
		defer func() {
			if p := recover(); p != nil {
				cancel(errPanic)
				d.logPanic(cl.id, p)
				ev.discard()
			}
		}()
		d.pump(w, cl, ev, first, ended, cancel)
	})
}

// first waits for the first frame, or for the end, or long enough.
func (ev *events) first() (frame []byte, ended bool) {
	timer := time.NewTimer(firstEventWait)
	defer timer.Stop()
	select {
	case frame, open := <-ev.frames:
		return frame, !open
	case <-timer.C:
		return nil, false
	}
}

func (ev *events) send(ctx context.Context, event any) error {
	b, err := json.Marshal(event)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	select {
	case ev.frames <- frame(b):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func frame(data []byte) []byte {
	b := make([]byte, 0, len(data)+8)
	b = append(b, "data: "...)
	b = append(b, data...)
	return append(b, "\n\n"...)
}

// discard waits until the producer has ended.
func (ev *events) discard() {
	for range ev.frames { // emptied, so that the producer isn't held
	}
}

// pump writes frames until the producer has ended or the client is gone.
func (d *Door) pump(w *bufio.Writer, cl *call, ev *events, next []byte, ended bool, cancel context.CancelCauseFunc) {
	put := func(b []byte) bool {
		if _, err := w.Write(b); err != nil {
			return false
		}
		return w.Flush() == nil
	}
	ping := time.NewTicker(pingEvery)
	defer ping.Stop()
	if next == nil { // the first event is late: the status goes out before it
		next = []byte(": ping\n\n")
	}
	for open := !ended; open; {
		if !put(next) {
			cancel(errClientGone)
			ev.discard()
			d.access(cl, http.StatusOK, "client_closed_request")
			return
		}
		select {
		case next, open = <-ev.frames:
			if cl.first == 0 {
				cl.first = time.Since(cl.started)
			}
			ping.Reset(pingEvery)
		case <-ping.C:
			next = []byte(": ping\n\n")
		}
	}
	if ev.err == nil {
		put([]byte("data: [DONE]\n\n"))
		d.access(cl, http.StatusOK, "")
		return
	}
	e := Describe(ev.err)
	cl.outcome = e.outcome()
	d.logError(cl, e)
	if !errors.Is(ev.err, errClientGone) {
		b, _ := json.Marshal(e.body()) // strings always encode
		put(frame(b))
	}
	d.access(cl, http.StatusOK, e.Code)
}
