package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// table is a listing for people: a header and rows.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// show prints value as JSON or as the table.
func (e *env) show(value any, t table) error {
	if e.output == "json" {
		return e.json(value)
	}
	for _, line := range t.lines() {
		if _, err := fmt.Fprintln(e.out, line); err != nil {
			return err
		}
	}
	return nil
}

// lines is the table, aligned. No line ends in blanks: a terminal would break it
// where nothing is.
func (t *table) lines() []string {
	var b bytes.Buffer
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	if len(t.head) > 0 {
		fmt.Fprintln(w, strings.ToUpper(strings.Join(t.head, "\t")))
	}
	for _, r := range t.rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // into memory
	var list []string
	for line := range strings.Lines(b.String()) {
		list = append(list, strings.TrimRight(line, " \n"))
	}
	return list
}

func (e *env) json(value any) error {
	enc := json.NewEncoder(e.out)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(value)
}

// say prints a line for a person; nothing under -o json.
func (e *env) say(format string, args ...any) {
	if e.output != "json" {
		fmt.Fprintf(e.out, format+"\n", args...)
	}
}

// sayTo prints a line to w.
func sayTo(w io.Writer, format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

func momentOr(t *time.Time, otherwise string) string {
	if t == nil {
		return otherwise
	}
	return moment(*t)
}
