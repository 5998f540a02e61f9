package evaluate

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"unicode"
)

// WriteTable writes the report for people: the figures before and after side by
// side, what declining would give, and what is mixed up.
func (r Report) WriteTable(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintf(t, "%d ITEMS\tBEFORE\tAFTER\n", r.Items)
	for _, row := range []struct {
		name string
		of   func(*Result) string
	}{
		{"loss", func(x *Result) string {
			if x.Loss == nil {
				return "-"
			}
			return strconv.FormatFloat(*x.Loss, 'f', 3, 64)
		}},
		{"right, if all were answered", func(x *Result) string { return percent(x.Accuracy) }},
		{"answered", func(x *Result) string { return percent(x.Coverage) }},
		{"right, of those answered", func(x *Result) string {
			if x.Coverage == 0 {
				return "-"
			}
			return percent(x.AnsweredAccuracy)
		}},
		{"out of scope, answered all the same", func(x *Result) string {
			if x.OutOfScope == nil {
				return "-"
			}
			return fmt.Sprintf("%d of %d", x.OutOfScope.Answered, x.OutOfScope.Items)
		}},
	} {
		fmt.Fprintf(t, "%s\t%s\t%s\n", row.name, cell(r.Before, row.of), cell(r.After, row.of))
	}
	if a := r.After; a != nil {
		if len(a.Curve) > 0 {
			fmt.Fprint(t, "\nCONFIDENCE AT LEAST\tANSWERED\tRIGHT\n")
		}
		for _, p := range a.Curve {
			fmt.Fprintf(t, "%.3f\t%s\t%s\n", p.Threshold, percent(p.Coverage), percent(p.Accuracy))
		}
		if len(a.Confusion) > 0 {
			fmt.Fprint(t, "\nWANTED\tGOT\tTIMES\n")
		}
		for _, c := range a.Confusion {
			got := shown(c.Got)
			if got == "" {
				got = "(no answer)"
			}
			fmt.Fprintf(t, "%s\t%s\t%d\n", shown(c.Wanted), got, c.Count)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	return nil
}

func cell(x *Result, of func(*Result) string) string {
	if x == nil {
		return "-"
	}
	return of(x)
}

func percent(share float64) string { return strconv.FormatFloat(100*share, 'f', 1, 64) + " %" }

// shownWidth is how much of an answer stands in a cell.
const shownWidth = 48

// shown is an answer in a cell of a terminal: on one line, without what would move
// its cursor.
func shown(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	runes := []rune(text)
	if len(runes) > shownWidth {
		text = string(runes[:shownWidth-1]) + "…"
	}
	return text
}
