package rest_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"freehold/cmd/freehold/rest"
)

// What the door adds to a small and to a large JSON request on a kept connection.
func BenchmarkPost(b *testing.B) {
	for _, size := range []int{200, 20_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			d, err := rest.New(rest.Config{Title: "bench", Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			rest.Mount(d, open, []rest.Route[nobody]{post("/things")})
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			served := make(chan error, 1)
			go func() { served <- d.Serve(ln) }()
			nc, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			body := fmt.Sprintf(`{"name":%q,"color":null}`, strings.Repeat("x", size))
			request := fmt.Sprintf("POST /things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			from := bufio.NewReader(nc)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.WriteString(nc, request); err != nil {
					b.Fatal(err)
				}
				resp, err := http.ReadResponse(from, nil)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusCreated {
					b.Fatal(resp.StatusCode, err)
				}
			}
			b.StopTimer()
			_ = nc.Close()
			if err := d.Shutdown(b.Context()); err != nil {
				b.Error(err)
			}
			if err := <-served; err != nil {
				b.Error(err)
			}
		})
	}
}
