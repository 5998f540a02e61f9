package cli

import (
	"errors"
	"strconv"
	"time"

	"freehold/catalog"
)

// span is a flag for a length of time, more than nothing, as ages are said: 90m,
// 12h, 30d.
type span time.Duration

func (s *span) Set(text string) error {
	d, err := catalog.ParseAge("", text)
	if err != nil {
		return errors.New("want a time such as 90m, 12h or 30d")
	}
	*s = span(d)
	return nil
}

func (s *span) String() string {
	const day = 24 * time.Hour
	switch d := time.Duration(*s); {
	case d == 0:
		return "" // not said
	case d%day == 0:
		return strconv.Itoa(int(d/day)) + "d"
	default:
		return d.String()
	}
}

func (s *span) Type() string { return "time" }

// fromNow is the moment that a span of so much ends; nil when it wasn't said.
func (s *span) fromNow() *time.Time {
	if *s == 0 {
		return nil
	}
	at := time.Now().Add(time.Duration(*s))
	return &at
}
