package inference

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// check says what is wanted of a value, empty when the value is fine. at is the
// place within the value, such as "[2].type", empty for the value itself.
type check func(raw json.RawMessage) (at, want string)

func number(lo, hi float64) check {
	return func(raw json.RawMessage) (string, string) {
		var f float64
		if json.Unmarshal(raw, &f) != nil || f < lo || f > hi {
			return "", fmt.Sprintf("must be a number between %g and %g", lo, hi)
		}
		return "", ""
	}
}

func integer(lo, hi int64) check {
	return func(raw json.RawMessage) (string, string) {
		if n, ok := whole(raw); ok && lo <= n && n <= hi {
			return "", ""
		}
		if lo == math.MinInt64 && hi == math.MaxInt64 {
			return "", "must be an integer of 64 bits"
		}
		return "", fmt.Sprintf("must be an integer between %d and %d", lo, hi)
	}
}

// whole reads an integer, also one written as 1.0 or 1e2.
func whole(raw json.RawMessage) (int64, bool) {
	var n int64
	if json.Unmarshal(raw, &n) == nil {
		return n, true
	}
	var f float64
	if json.Unmarshal(raw, &f) != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}

func boolean(raw json.RawMessage) (string, string) {
	if s := string(raw); s != "true" && s != "false" {
		return "", "must be true or false"
	}
	return "", ""
}

// text wants a string of at most so many bytes that a column can hold.
func text(most int) check {
	return func(raw json.RawMessage) (string, string) {
		s, ok := str(raw)
		if !ok || len(s) > most || strings.ContainsRune(s, 0) {
			return "", fmt.Sprintf("must be a string of at most %d bytes, without NUL", most)
		}
		return "", ""
	}
}

func oneOf(words ...string) check {
	return func(raw json.RawMessage) (string, string) {
		s, ok := str(raw)
		for _, w := range words {
			if ok && s == w {
				return "", ""
			}
		}
		return "", "must be one of " + strings.Join(words, ", ")
	}
}

func anyObject(raw json.RawMessage) (string, string) {
	if _, ok := obj(raw); !ok {
		return "", "must be an object"
	}
	return "", ""
}

// listOf wants an array of at most so many, each of which satisfies c.
func listOf(least, most int, c check) check {
	return func(raw json.RawMessage) (string, string) {
		l, ok := list(raw)
		if !ok || len(l) < least || len(l) > most {
			return "", fmt.Sprintf("must be an array of %d to %d", least, most)
		}
		for i, v := range l {
			if at, want := c(v); want != "" {
				return place("", i) + at, want
			}
		}
		return "", ""
	}
}

// either wants one of two checks to be satisfied; it tells what the second wants.
func either(a, b check) check {
	return func(raw json.RawMessage) (string, string) {
		if _, want := a(raw); want == "" {
			return "", ""
		}
		return b(raw)
	}
}

// member wants an object with a member that satisfies c.
func member(name string, c check) check {
	return func(raw json.RawMessage) (string, string) {
		o, ok := obj(raw)
		if !ok {
			return "", "must be an object"
		}
		v, ok := o[name]
		if !ok {
			return "." + name, "is required"
		}
		at, want := c(v)
		if want == "" {
			return "", ""
		}
		return "." + name + at, want
	}
}

// both wants two checks to be satisfied.
func both(a, b check) check {
	return func(raw json.RawMessage) (string, string) {
		if at, want := a(raw); want != "" {
			return at, want
		}
		return b(raw)
	}
}

func str(raw json.RawMessage) (string, bool) {
	var s string
	ok := len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil
	return s, ok
}

func obj(raw json.RawMessage) (object, bool) {
	var o object
	ok := len(raw) > 0 && raw[0] == '{' && json.Unmarshal(raw, &o) == nil
	return o, ok
}

func list(raw json.RawMessage) ([]json.RawMessage, bool) {
	var l []json.RawMessage
	ok := len(raw) > 0 && raw[0] == '[' && json.Unmarshal(raw, &l) == nil
	return l, ok
}
