package finetune

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"
)

// FilePrefix and JobPrefix begin ids; a uuid follows.
const (
	FilePrefix = "file-"
	JobPrefix  = "ftjob-"
)

// Bounds of what a request may hold, as OpenAI has them.
const (
	maxSuffix    = 64
	maxPairs     = 16
	maxPairName  = 64
	maxPairValue = 512
	maxSeed      = math.MaxInt32
)

// A suffix becomes a part of a model's name, which colons divide.
var suffixPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Request is what a client asks for.
type Request struct {
	Model                        string
	TrainingFile, ValidationFile uuid.UUID // ValidationFile may be uuid.Nil
	Suffix                       string
	Seed                         *int64
	Method                       Method
	Metadata                     map[string]string
}

// ParseRequest reads the body of a new job: *Refused, with the place in Param, for
// what is malformed, unknown or not offered. Nulls count as absent.
func ParseRequest(body []byte) (Request, error) {
	var req Request
	o, err := members("", body)
	if err != nil {
		return req, err
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if err := req.take(name, o[name]); err != nil {
			return req, err
		}
	}
	if raw := o["hyperparameters"]; raw != nil && o["method"] != nil {
		return req, &Refused{"hyperparameters", "must not stand beside method"}
	}
	switch {
	case req.Model == "":
		return req, &Refused{"model", "is required"}
	case req.TrainingFile == uuid.Nil:
		return req, &Refused{"training_file", "is required"}
	case req.TrainingFile == req.ValidationFile:
		return req, &Refused{"validation_file", "must be another file than training_file"}
	}
	return req, nil
}

// take reads one member.
func (r *Request) take(name string, raw json.RawMessage) (err error) {
	switch name {
	case "model":
		r.Model, err = word(name, raw, 256)
	case "training_file":
		r.TrainingFile, err = fileID(name, raw)
	case "validation_file":
		r.ValidationFile, err = fileID(name, raw)
	case "suffix":
		if r.Suffix, err = word(name, raw, maxSuffix); err == nil && !suffixPattern.MatchString(r.Suffix) {
			err = &Refused{name, "must be 1 to 64 letters, digits and . _ -, beginning with a letter or a digit"}
		}
	case "seed":
		var seed int64
		if json.Unmarshal(raw, &seed) != nil || seed < 0 || seed > maxSeed {
			return &Refused{name, fmt.Sprintf("must be an integer from 0 to %d", maxSeed)}
		}
		r.Seed = &seed
	case "hyperparameters":
		err = r.Method.hyper(name, raw)
	case "method":
		err = r.Method.read(raw)
	case "metadata":
		r.Metadata, err = pairs(name, raw)
	case "integrations":
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil || len(list) > 0 {
			err = &Refused{name, "is not supported: progress is told by the job's events"}
		}
	default:
		err = unknown("", name)
	}
	return err
}

// read reads {type, supervised: {hyperparameters}}.
func (m *Method) read(raw json.RawMessage) error {
	o, err := members("method", raw)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		switch name {
		case "type":
			if m.Type, err = word("method.type", o[name], 32); err != nil {
				return err
			}
		case "supervised":
			inner, err := members("method.supervised", o[name])
			if err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(inner)) {
				if name != "hyperparameters" {
					return unknown("method.supervised", name)
				}
				if err := m.hyper("method.supervised.hyperparameters", inner[name]); err != nil {
					return err
				}
			}
		case "dpo", "reinforcement":
			return &Refused{"method." + name, "is not supported: supervised is"}
		default:
			return unknown("method", name)
		}
	}
	if m.Type == "" {
		return &Refused{"method.type", "is required"}
	}
	if m.Type != "supervised" {
		return &Refused{"method.type", "must be supervised"}
	}
	return nil
}

// hyper reads hyperparameters; "auto" leaves one to the trainer.
func (m *Method) hyper(at string, raw json.RawMessage) error {
	o, err := members(at, raw)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		raw := o[name]
		if string(raw) == `"auto"` {
			continue
		}
		place := at + "." + name
		switch name {
		case "n_epochs":
			m.Epochs, err = whole(place, raw, 1, 50)
		case "batch_size":
			m.BatchSize, err = whole(place, raw, 1, 256)
		case "learning_rate_multiplier":
			f := 0.0
			if json.Unmarshal(raw, &f) != nil || f <= 0 || f > 1000 {
				err = &Refused{place, `must be "auto" or a number above 0, at most 1000`}
			}
			m.LearningRateMultiplier = f
		default:
			err = unknown(at, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// members reads a JSON object without its nulls.
func members(at string, raw json.RawMessage) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) {
		return nil, &Refused{at, "the body is not valid UTF-8"}
	}
	var o map[string]json.RawMessage
	if json.Unmarshal(raw, &o) != nil || o == nil {
		if at == "" {
			return nil, &Refused{at, "the body must be a JSON object"}
		}
		return nil, &Refused{at, "must be an object"}
	}
	maps.DeleteFunc(o, func(_ string, v json.RawMessage) bool { return bytes.Equal(v, []byte("null")) })
	return o, nil
}

func word(at string, raw json.RawMessage, most int) (string, error) {
	var s string
	if json.Unmarshal(raw, &s) != nil || s == "" || len(s) > most || strings.ContainsRune(s, 0) {
		return "", &Refused{at, fmt.Sprintf("must be a string of 1 to %d bytes", most)}
	}
	return s, nil
}

func whole(at string, raw json.RawMessage, lo, hi int) (int, error) {
	var n int
	if json.Unmarshal(raw, &n) != nil || n < lo || n > hi {
		return 0, &Refused{at, fmt.Sprintf(`must be "auto" or an integer from %d to %d`, lo, hi)}
	}
	return n, nil
}

func pairs(at string, raw json.RawMessage) (map[string]string, error) {
	var all map[string]string
	if json.Unmarshal(raw, &all) != nil || len(all) > maxPairs {
		return nil, &Refused{at, "must be an object of at most 16 strings"}
	}
	for name, value := range all {
		if name == "" || utf8.RuneCountInString(name) > maxPairName || utf8.RuneCountInString(value) > maxPairValue ||
			strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0) {
			return nil, &Refused{at, "must have names of 1 to 64 characters and values of at most 512"}
		}
	}
	return all, nil
}

// A name that looks like none may be content in the wrong place and isn't repeated.
var printable = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

func unknown(at, name string) error {
	if !printable.MatchString(name) {
		return &Refused{at, "unknown parameter"}
	}
	if at != "" {
		at += "."
	}
	return &Refused{at + name, "unknown parameter"}
}

func fileID(at string, raw json.RawMessage) (uuid.UUID, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		if id, ok := ParseID(FilePrefix, s); ok {
			return id, nil
		}
	}
	return uuid.Nil, &Refused{at, "must be the id of a file"}
}

// ParseID reads an id with its prefix, in the one form that we write.
func ParseID(prefix, s string) (uuid.UUID, bool) {
	bare, ok := strings.CutPrefix(s, prefix)
	id, err := uuid.Parse(bare)
	if !ok || err != nil || id.Version() != 7 || id.String() != bare {
		return uuid.Nil, false
	}
	return id, true
}
