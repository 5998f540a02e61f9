package chaos_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"
)

// page is what happened at a node since the page before. Times are in ns since
// 1970: all nodes run on one machine.
type page struct {
	Served  []visit        `json:"served,omitempty"`
	Invalid []visit        `json:"invalid,omitempty"` // the key was not taken
	Broken  []harm         `json:"broken,omitempty"`  // the connection was lost inside a borrow
	Lost    []harm         `json:"lost,omitempty"`    // no connection, and it wasn't the queue
	Wrong   []fault        `json:"wrong,omitempty"`   // what must not happen at any time
	Counts  map[string]int `json:"counts,omitempty"`
	Ended   bool           `json:"ended,omitempty"` // in order, and all was closed
}

// visit is one request's use of a key.
type visit struct {
	Tenant int   `json:"t"`
	Key    int   `json:"k"`
	Epoch  int64 `json:"e,omitempty"`
	At     int64 `json:"at"` // before anything was asked
}

// harm is a request that was not served for no reason of the tenant's.
type harm struct {
	Tenant   int    `json:"t"`
	From, To int64  // inside of which it happened
	Class    int    `json:"c"`
	What     string `json:"what"`
}

// fault is a guarantee that was broken.
type fault struct {
	Of, Text string
}

// The parts of the verdict.
const (
	foreign = "G1"
	budget  = "G3"
	broken  = "G4"
	truth   = "G5"
	typed   = "errors are typed"
	left    = "nothing is left, everybody is served"
)

func now() int64 { return time.Now().UnixNano() }

// journal writes a node's pages. What is written survives the node.
type journal struct {
	file *os.File

	mu   sync.Mutex
	page page // guarded by mu
}

func openJournal(name string) (*journal, error) {
	file, err := os.Create(name)
	return &journal{file: file}, err
}

func (j *journal) note(fn func(p *page)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fn(&j.page)
}

func (j *journal) count(what string) {
	j.note(func(p *page) {
		if p.Counts == nil {
			p.Counts = map[string]int{}
		}
		p.Counts[what]++
	})
}

func (j *journal) wrong(of, format string, args ...any) {
	j.note(func(p *page) { p.Wrong = append(p.Wrong, fault{of, fmt.Sprintf(format, args...)}) })
}

// turn writes the page and begins the next.
func (j *journal) turn() error {
	j.mu.Lock()
	full := j.page
	j.page = page{}
	j.mu.Unlock()
	text, err := json.Marshal(full)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(text, '\n'))
	return err
}

// readJournal returns a node's pages. The last line of one that was killed may be
// half a page.
func readJournal(name string) ([]page, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var pages []page
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte{'\n'}) {
			break
		}
		var p page
		if err := json.Unmarshal(line, &p); err != nil {
			return nil, err
		}
		pages = append(pages, p)
	}
	return pages, nil
}
