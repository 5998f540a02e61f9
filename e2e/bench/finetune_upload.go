package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime/multipart"
	"net/http"
	"runtime/metrics"
	"strings"
	"sync"
	"time"
)

const (
	// uploadBytes is one file; a tenant's may have 512 MiB.
	uploadBytes  = 500 << 20
	uploadRounds = 3
	heapEvery    = 5 * time.Millisecond
)

// uploadContest is what a node holds in memory while a large file goes through it to
// the object store.
var uploadContest = contest{"upload", []string{"upload_heap_mb"}, uploadHeap}

// uploadHeap uploads a file of 500 MB from this process, through a node that is a
// process of its own, to an object store that is a third one.
func uploadHeap(ctx context.Context, b *bench) (err error) {
	e, err := openEstate(ctx, b)
	defer e.close()
	if err != nil {
		return err
	}
	d, err := e.openDomain(ctx, "upload", e.address())
	if err != nil {
		return err
	}
	defer d.cat.Close()
	who, err := d.customer(ctx, "upload", 1e9, 10)
	if err != nil {
		return err
	}
	node, err := e.serve(ctx, d)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var peaks []float64
	var rate float64
	for round := range min(b.opt.rounds, uploadRounds) {
		b.progress("upload, round %d of %d", round+1, min(b.opt.rounds, uploadRounds))
		if _, err := node.heap(ctx, client, http.MethodPost); err != nil {
			return err
		}
		began := time.Now()
		id, err := who.upload(ctx, client, node.API, uploadBytes)
		if err != nil {
			return err
		}
		rate = float64(uploadBytes) / 1e6 / time.Since(began).Seconds()
		peak, err := node.heap(ctx, client, http.MethodGet)
		if err != nil {
			return err
		}
		peaks = append(peaks, float64(peak)/1e6)
		if err := who.call(ctx, client, http.MethodDelete, node.API+"/v1/files/"+id, "", nil, nil); err != nil {
			return err
		}
	}
	return b.emitWorst("upload_heap_mb", "MB", atMost(100), peaks, fmt.Sprintf(
		"highest heap in use of the node's process (runtime/metrics, every %s) during %d MB by POST /v1/files, worst round; %.0f MB/s",
		heapEvery, uploadBytes/1_000_000, rate))
}

// upload sends a file of that many bytes that don't compress, as SDKs do: a form, the
// file first, its length known. It returns the file's id.
func (c customer) upload(ctx context.Context, client *http.Client, url string, size int64) (string, error) {
	var frame strings.Builder
	form := multipart.NewWriter(&frame)
	if _, err := form.CreateFormFile("file", "large.bin"); err != nil {
		return "", err
	}
	head := frame.String()
	if err := errors.Join(form.WriteField("purpose", "user_data"), form.Close()); err != nil {
		return "", err
	}
	tail := frame.String()[len(head):]
	noise := rand.NewChaCha8([32]byte{1})
	body := io.MultiReader(strings.NewReader(head), io.LimitReader(noise, size), strings.NewReader(tail))
	var made struct {
		ID    string
		Bytes int64
	}
	err := c.call(ctx, client, http.MethodPost, url+"/v1/files", form.FormDataContentType(),
		&sized{body, int64(len(head)) + size + int64(len(tail))}, &made)
	if err == nil && made.Bytes != size {
		err = fmt.Errorf("%d bytes were stored, want %d", made.Bytes, size)
	}
	return made.ID, err
}

// sized is a body whose length is known.
type sized struct {
	io.Reader
	length int64
}

// call asks as the customer and decodes the answer into out, when it isn't nil.
func (c customer) call(ctx context.Context, client *http.Client, method, url, media string, body *sized, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	if body != nil {
		req.Body, req.ContentLength = io.NopCloser(body), body.length
		req.Header.Set("Content-Type", media)
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, req.URL.Path, res.Status, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	return err
}

// heapGauge tells how much heap this process has had in use at most: POST begins
// anew, GET ends and tells, in bytes.
type heapGauge struct {
	mu   sync.Mutex // guards what follows
	stop chan struct{}
	peak chan uint64
}

func (g *heapGauge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var highest uint64
	if g.stop != nil {
		close(g.stop)
		highest, g.stop = <-g.peak, nil
	}
	if r.Method == http.MethodPost {
		g.stop, g.peak = make(chan struct{}), make(chan uint64, 1)
		go watchHeap(g.stop, g.peak)
	}
	_ = json.NewEncoder(w).Encode(highest)
}

func watchHeap(stop <-chan struct{}, peak chan<- uint64) {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/unused:bytes"}}
	tick := time.NewTicker(heapEvery)
	defer tick.Stop()
	highest := uint64(0)
	for {
		metrics.Read(samples) // together: runtime.MemStats.HeapInuse
		highest = max(highest, samples[0].Value.Uint64()+samples[1].Value.Uint64())
		select {
		case <-tick.C:
		case <-stop:
			peak <- highest
			return
		}
	}
}

// heap begins (POST) or ends (GET) the node's heapGauge.
func (n *serving) heap(ctx context.Context, client *http.Client, method string) (peak uint64, err error) {
	err = customer{}.call(ctx, client, method, n.Bare+"/heap", "", nil, &peak)
	return peak, err
}
