package main

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"text/tabwriter"
)

// result is one case as standard output has it.
type result struct {
	Bench  string  `json:"bench"`
	Case   string  `json:"case"`
	Value  float64 `json:"value"` // the rounds' median
	P10    float64 `json:"p10"`
	P90    float64 `json:"p90"`
	Unit   string  `json:"unit"`
	Goal   *string `json:"goal"` // as text, ">= 0.95", or null
	Rounds int     `json:"rounds"`

	goal *goal
	note string
}

// goal is what a case should reach.
type goal struct {
	op    string
	bound float64
}

func atLeast(bound float64) *goal { return &goal{">=", bound} }
func atMost(bound float64) *goal  { return &goal{"<=", bound} }

func (g *goal) String() string { return g.op + " " + strconv.FormatFloat(g.bound, 'g', -1, 64) }

func (g *goal) met(value float64) bool {
	if g.op == ">=" {
		return value >= g.bound
	}
	return value <= g.bound
}

// emit writes a case of which each round has a value. The note is for people.
func (b *bench) emit(name, unit string, g *goal, rounds []float64, note string) error {
	return b.write(name, unit, g, median(rounds), rounds, note)
}

// emitWorst is emit for what must not happen even once: the highest round is the
// value, since a median would forgive it.
func (b *bench) emitWorst(name, unit string, g *goal, rounds []float64, note string) error {
	return b.write(name, unit, g, quantile(rounds, 1), rounds, note)
}

func (b *bench) write(name, unit string, g *goal, value float64, rounds []float64, note string) error {
	r := result{
		Bench: b.topic, Case: name, Value: round4(value), Unit: unit, Rounds: len(rounds),
		P10: round4(quantile(rounds, 0.1)), P90: round4(quantile(rounds, 0.9)),
		goal: g, note: note,
	}
	if g != nil {
		text := g.String()
		r.Goal = &text
	}
	to := json.NewEncoder(b.out)
	to.SetEscapeHTML(false) // goals have a >
	if err := to.Encode(r); err != nil {
		return fmt.Errorf("%s: %w", name, err) // not a number: nothing was measured
	}
	b.results = append(b.results, r)
	return nil
}

// table prints all cases for people.
func (b *bench) table() {
	w := tabwriter.NewWriter(b.log, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\n%s\tvalue\tp10\tp90\tunit\tgoal\t\t\n", b.topic)
	for _, r := range b.results {
		text, verdict := "", ""
		if r.goal != nil {
			text, verdict = r.goal.String(), "met"
			if !r.goal.met(r.Value) {
				verdict = "MISSED"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Case, figure(r.Value), figure(r.P10), figure(r.P90),
			r.Unit, text, verdict, r.note)
	}
	for _, name := range b.missing {
		fmt.Fprintf(w, "%s\tnot measured\t\t\t\t\t\t\n", name)
	}
	_ = w.Flush()
}

// quantile is the value at q, 0 to 1, of the sorted values, between two of them
// where it falls between; NaN without values.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	at := q * float64(len(sorted)-1)
	low := int(at)
	high := min(low+1, len(sorted)-1)
	return sorted[low] + (at-float64(low))*(sorted[high]-sorted[low])
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// ratios divides round by round, since the rounds' conditions differ.
func ratios(subject, peer []float64) []float64 {
	out := make([]float64, len(subject))
	for i := range subject {
		out[i] = subject[i] / peer[i]
	}
	return out
}

// round4 keeps four significant digits.
func round4(v float64) float64 {
	n, err := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	if err != nil {
		return v
	}
	return n
}

func figure(v float64) string { return strconv.FormatFloat(round4(v), 'f', -1, 64) }
